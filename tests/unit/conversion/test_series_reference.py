"""What later stages keep of a series."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from conversion.convert import convert_with_reference
from conversion.series_reference import write_source_header
from corewatch.errors import NotAnalysed
from tests.support_conversion import FRAME_UID, SERIES_UID, STUDY_UID, enhanced, stack, write

ZS = [3.0, 2.0, 1.0, 0.0]


def test_a_reference_lists_the_slices_as_the_volume_has_them(tmp_path: Path) -> None:
    volume, reference = convert_with_reference(write(tmp_path, stack(ZS)))
    assert (reference.study_uid, reference.series_uid, reference.images.frame_of_reference_uid) == (
        STUDY_UID,
        SERIES_UID,
        FRAME_UID,
    )
    assert [one.position_lps for one in reference.slices] == [(-5.0, -6.0, z) for z in sorted(ZS)]
    assert tuple(one.sop_instance_uid for one in reference.slices) == volume.sop_instance_uids
    assert reference.instances == tuple((CTImageStorage, uid) for uid in volume.sop_instance_uids)


def test_a_multi_frame_reference_names_frames_and_its_instance_once(tmp_path: Path) -> None:
    _, reference = convert_with_reference(write(tmp_path, [enhanced(stack(ZS))]))
    assert [one.frame for one in reference.slices] == [4, 3, 2, 1]
    assert len(reference.instances) == 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_the_header_is_kept_as_it_was_and_the_pixels_are_not(tmp_path: Path, syntax: str) -> None:
    (path,) = write(tmp_path / "in", stack([0.0], PatientName="Müller^Åsa", SpecificCharacterSet="ISO_IR 100"), syntax)
    out = tmp_path / "source_header.dcm"
    write_source_header(path, out)
    kept, before = pydicom.dcmread(out), pydicom.dcmread(path)
    assert "PixelData" not in kept
    assert out.stat().st_size < 1600
    del before.PixelData
    assert kept.get_item("PatientName").value == "Müller^Åsa".encode("latin-1")
    assert list(kept.keys()) == list(before.keys())
    assert kept == before
    assert list(tmp_path.iterdir()).count(out) == 1


def test_what_is_not_dicom_leaves_no_header(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("no image")
    with pytest.raises(NotAnalysed):
        write_source_header(tmp_path / "note", tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()
