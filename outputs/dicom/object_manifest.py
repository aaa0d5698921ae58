"""Manifest of a case's `dicom` folder (`objects.json`): its DICOM objects, and why a kind is missing. Needs no DICOM library."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from outputs.dicom.object_kinds import ObjectKind

MANIFEST: Final = "objects.json"


@dataclass(frozen=True, slots=True)
class ObjectManifest:
    """The objects of one result.

    Attributes
    ----------
    made
        File names of each kind, in order of Instance Number.
    left_out
        Why a kind cannot be made for this case, in words for people.
    """

    made: dict[ObjectKind, tuple[str, ...]] = field(default_factory=dict)
    left_out: dict[ObjectKind, str] = field(default_factory=dict)

    def missing(self, kinds: Iterable[str]) -> str:
        """The missing ones of `kinds` with the reasons; empty where none is missing."""
        return "; ".join(f"no {kind}: {self.left_out[ObjectKind(kind)]}" for kind in kinds if kind in self.left_out)

    def to_json(self) -> dict[str, Any]:
        """The object of `objects.json`."""
        return {"made": {str(k): list(v) for k, v in self.made.items()}, "left_out": {str(k): v for k, v in self.left_out.items()}}

    @classmethod
    def read(cls, folder: Path) -> ObjectManifest | None:
        """Read the manifest of a case's `dicom` folder; None where it was not written yet."""
        try:
            data = json.loads((folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            return None
        return cls(
            made={ObjectKind(k): tuple(v) for k, v in data["made"].items()},
            left_out={ObjectKind(k): str(v) for k, v in data["left_out"].items()},
        )
