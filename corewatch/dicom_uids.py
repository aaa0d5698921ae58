"""SOP class UIDs that decisions depend on (PS3.4 B.5). All other UIDs are taken from pydicom and pynetdicom."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
"""Common beginning of the storage SOP class UIDs of the standard."""

CT_SOP_CLASSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        f"{STORAGE_ROOT}2": "CT Image Storage",
        f"{STORAGE_ROOT}2.1": "Enhanced CT Image Storage",
        f"{STORAGE_ROOT}2.2": "Legacy Converted Enhanced CT Image Storage",
    }
)
"""SOP classes whose instances are analysed, and their names."""
