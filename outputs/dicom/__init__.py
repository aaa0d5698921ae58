"""DICOM objects of a result, one module per kind; `writing.write_objects` makes them all.

The names below need no DICOM library; the modules that encode do.
"""

from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.object_manifest import ObjectManifest

__all__ = ["ObjectKind", "ObjectManifest"]
