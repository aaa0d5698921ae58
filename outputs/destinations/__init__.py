"""Where results are delivered: one module per kind of destination.

A kind of destination is a module of this package with a class that satisfies `Destination` and a `KIND` that builds it from its
settings section (`config.delivery`); `build_destinations` finds it by that name. `archive` holds what PACS and DICOMweb archives
share, `stow` the STOW-RS client.
"""

from outputs.destinations.base import Delivered, Destination, DestinationContext, DestinationKind
from outputs.destinations.registry import build_destinations

__all__ = ["Delivered", "Destination", "DestinationContext", "DestinationKind", "build_destinations"]
