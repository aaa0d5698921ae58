"""What a series holds besides slices of one stack: set aside and named, or a reason to refuse it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from conversion.convert import convert_with_reference
from corewatch.reasons import Reason
from tests.support_conversion import enhanced, head, image, stack, write
from tests.unit.conversion.test_convert import ZS, expected, refused

KINDS_ASIDE = {
    "It is a localizer.": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
    "It is a projection.": {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]},
    "It is a dose page.": {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "DOSE"], "ImagePositionPatient": [0, 0, 500]},
    "It is a secondary capture.": {"SOPClassUID": SecondaryCaptureImageStorage, "Rows": 30, "Columns": 40},
}


@pytest.mark.parametrize("kind", KINDS_ASIDE)
def test_what_is_no_slice_is_set_aside_and_named(tmp_path: Path, kind: str) -> None:
    scout = image(head(30, 60), (0, 0, 0), 99, **KINDS_ASIDE[kind])
    paths = write(tmp_path, [scout, *stack(ZS)])
    volume, reference = convert_with_reference(paths)
    np.testing.assert_array_equal(volume.hu, expected())
    assert reference.notes == (f"1 of 7 instances set aside. {kind}",)
    assert reference.file == paths[1 + int(np.argmin(ZS))], "patient and study are those of a slice in the volume"
    assert refused(write(tmp_path / "alone", [scout])).reason in (Reason.NOT_A_VOLUME, Reason.TOO_FEW_SLICES)
    gap = refused(write(tmp_path / "gap", [scout, *stack([*ZS, 40.0, 41.0, 42.0])]))
    assert gap.reason is Reason.MISSING_SLICES
    assert gap.detail.endswith(kind), "what was left out is named with the problem"


def test_localizer_frames_of_an_enhanced_object_are_set_aside(tmp_path: Path) -> None:
    frames = enhanced(stack([*ZS, 200.0]))
    for n, item in enumerate(frames.PerFrameFunctionalGroupsSequence):
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if n == 6 else "VOLUME", "NONE"]
        item.CTImageFrameTypeSequence = [kind]
    volume, reference = convert_with_reference(write(tmp_path, [frames]))
    np.testing.assert_array_equal(volume.hu, expected())
    assert reference.notes == ("1 of 7 instances set aside. It is a localizer.",)


def test_frames_of_two_phases_or_orientations_are_mixed(tmp_path: Path) -> None:
    phases = enhanced([*stack(ZS), *stack(ZS)])
    error = refused(write(tmp_path / "phases", [phases]))
    assert (error.reason, "Each of its 6 positions occurs 2 times." in error.detail) == (Reason.MIXED_SERIES, True)
    turned = enhanced(stack(ZS))
    plane = Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    for n in (1, 2):
        turned.PerFrameFunctionalGroupsSequence[n].PlaneOrientationSequence = [plane]
    error = refused(write(tmp_path / "turned", [turned]))
    assert (error.reason, "2 of 6 slices are oriented differently." in error.detail) == (Reason.MIXED_SERIES, True)
