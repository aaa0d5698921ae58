"""DICOMDIR, the index of a CD or DVD: which files it names (PS3.3 F.3, PS3.10 8.6), and which of them are missing."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

from pydicom import dcmread

from conversion.elements import deflated_from
from corewatch.units import MIB

INDEX_NAME = "DICOMDIR"
MAX_INDEX_BYTES = 64 * MIB
"""A study of ten thousand instances has an index of 5 MB."""

_RECORDS = 0x00041220
_FILE_ID = 0x00041500


def is_index(name: str) -> bool:
    """Whether a file of this name is the index of the folder that it lies in."""
    return name.rpartition("/")[2].upper().removesuffix(";1").rstrip(".") == INDEX_NAME


def referenced_files(name: str, data: bytes) -> frozenset[str]:
    """Paths of the files that an index names, in the form of `comparable`; empty where it cannot be read.

    Parameters
    ----------
    name
        Path of the index within the drop: the paths in it are relative to its folder.
    """
    try:
        # a damaged index must not keep the images out
        if deflated_from(BytesIO(data)) is not None:
            return frozenset()  # PS3.10 8.6 forbids it, and the reader would inflate all of it
        records = dcmread(BytesIO(data), force=True, specific_tags=[_RECORDS]).get(_RECORDS)
        ids = [record.get(_FILE_ID) for record in (() if records is None else records.value)]
        parts = [i.value for i in ids if i is not None and i.value]
        paths = [part if isinstance(part, str) else "/".join(str(p) for p in part) for part in parts]
    except Exception:
        return frozenset()
    folder = name.rpartition("/")[0]
    return frozenset(comparable(f"{folder}/{path}" if folder else path) for path in paths)


def comparable(name: str) -> str:
    """A path in a form that survives copying: ISO 9660 has capitals and a version, a copy often has neither."""
    return name.replace("\\", "/").upper().removesuffix(";1").rstrip(".")


def count_missing(referenced: Iterable[str], names: Iterable[str]) -> int:
    """How many of the files that an index names are not among `names`."""
    there = {comparable(name) for name in names}
    return sum(path not in there for path in referenced)


def missing_reason(count: int) -> str:
    """The reason for a CD of which some files were not copied."""
    files = "One file" if count == 1 else f"{count} files"
    return f"{files} that it names {'is' if count == 1 else 'are'} missing: the copy of the medium is not complete."
