"""Header indexes of made-up series, for tests of decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from corewatch.instance import Instance

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)

_SLICE = Instance(
    sop_instance_uid="1.2.3.1",
    sop_class_uid=CT_IMAGE,
    transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
    series_uid="1.2.3",
    study_uid="1.2",
    modality="CT",
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    body_part="HEAD",
    study_description="CT HEAD",
    series_description="CTA HEAD 0.5 H30f",
    orientation=AXIAL,
    rows=512,
    columns=512,
    pixel_spacing_mm=(0.5, 0.5),
)


def one(number: int = 1, step_mm: float = 1.0, **changes: Any) -> Instance:
    """Slice `number` (from 1) of an axial CTA of the head."""
    placed = replace(
        _SLICE,
        sop_instance_uid=f"{changes.get('series_uid', '1.2.3')}.{number}",
        instance_number=number,
        position_lps=(-100.0, -120.0, 10.0 + number * step_mm),
        slice_thickness_mm=step_mm,
    )
    return replace(placed, **changes)


def stack(slices: int = 160, step_mm: float = 1.0, **changes: Any) -> list[Instance]:
    """A whole series in order."""
    return [one(number, step_mm, **changes) for number in range(1, slices + 1)]
