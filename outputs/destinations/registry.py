"""All kinds of destinations, found by their modules, and the destinations that the settings name."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from config.delivery import DeliverSettings
from outputs import destinations
from outputs.destinations.base import Destination, DestinationContext, DestinationKind


def installed_kinds() -> tuple[DestinationKind, ...]:
    """The `KIND` of every module of this package that has one, in the order in which a result is delivered."""
    modules = (import_module(f"{destinations.__name__}.{found.name}") for found in iter_modules(destinations.__path__))
    kinds = (kind for module in modules if isinstance(kind := getattr(module, "KIND", None), DestinationKind))
    return tuple(sorted(kinds, key=lambda kind: kind.section.turn))


def build_destinations(deliver: DeliverSettings, context: DestinationContext | None = None) -> dict[str, Destination]:
    """The destinations that the settings name, by name, in the order in which a result is delivered: what alerts people is first.

    That is ``email``, ``operators`` (no result), ``escalation-1`` and so on, ``webhook``, ``webhook-notices`` (no result), each
    PACS and each DICOMweb archive under its own name, ``folder``.

    Raises
    ------
    ValueError
        If two destinations have the same name.
    """
    context = DestinationContext() if context is None else context
    built = [destination for kind in installed_kinds() for destination in kind.build(deliver, context)]
    by_name = {destination.name: destination for destination in built}
    if len(by_name) != len(built):
        raise ValueError("two destinations have the same name")
    return by_name
