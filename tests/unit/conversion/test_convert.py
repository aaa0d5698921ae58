"""From files to a volume: values, places, and every fault that must end with a reason."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

from conversion.convert import convert_series, convert_with_reference
from conversion.slices import slices_of_file
from conversion.volume_grid import AIR_HU
from corewatch.errors import NotAnalysed
from corewatch.geometry import apply
from corewatch.reasons import Reason
from tests.support_conversion import AXIAL, enhanced, field_image, head, image, stack, write

ZS = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]


def expected(count: int = 6) -> NDArray[np.int16]:
    """HU of `stack`, as (columns, rows, slices)."""
    return np.stack([head(seed=n).T for n in range(count)], axis=2)


def refused(paths: list[Path], threads: int = 2) -> NotAnalysed:
    with pytest.raises(NotAnalysed) as caught:
        convert_series(paths, threads=threads)
    assert "Doe" not in str(caught.value)
    return caught.value


def test_values_places_and_slices(tmp_path: Path) -> None:
    volume, reference = convert_with_reference(write(tmp_path, stack(ZS)))
    assert volume.hu.dtype == np.int16
    assert volume.hu.flags.f_contiguous
    np.testing.assert_array_equal(volume.hu, expected())
    np.testing.assert_allclose(apply(volume.voxel_to_lps, np.array([[0, 0, 0], [35, 39, 5]])), [[-5, -6, 10], [12.5, 13.5, 15]])
    assert volume.sop_instance_uids == tuple(uid for _, uid in reference.instances)
    assert [one.position_lps[2] for one in reference.slices] == ZS


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)))
def test_any_order_of_files_gives_the_same_volume(tmp_path: Path, order: list[int]) -> None:
    paths = write(tmp_path, stack(ZS))
    volume = convert_series([paths[n] for n in order])
    np.testing.assert_array_equal(volume.hu, expected())
    assert volume.voxel_to_lps[2, 3] == 10.0


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_lossless_encodings_give_identical_values(tmp_path: Path, syntax: str, threads: int) -> None:
    datasets = stack(ZS)
    if syntax == ExplicitVRBigEndian:
        for d in datasets:
            d.PixelData = np.frombuffer(d.PixelData, "<u2").byteswap().tobytes()
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets, syntax), threads=threads).hu, expected())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_damaged_image_ends_the_series(tmp_path: Path, threads: int) -> None:
    paths = write(tmp_path, stack(ZS), JPEG2000Lossless)
    whole = paths[3].read_bytes()
    at = whole.index(b"\xff\x4f\xff\x51")
    paths[3].write_bytes(whole[: at + 20] + b"\0" * (len(whole) - at - 20))
    error = refused(paths, threads)
    assert (error.reason, "JPEG 2000" in error.detail) == (Reason.UNREADABLE, True)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("parts", [[6], [1, 5], [2, 1, 1, 2]])
def test_every_frame_is_dealt_out_once(tmp_path: Path, threads: int, parts: list[int]) -> None:
    """Single-frame and multi-frame files in one series, fewer and more of them than there are threads."""
    frames, files = stack(ZS), []
    for n, count in enumerate(parts):
        mine, frames = frames[:count], frames[count:]
        files.append(enhanced(mine, SOPInstanceUID=f"1.2.{n}") if count > 1 else mine[0])
    np.testing.assert_array_equal(convert_series(write(tmp_path, files, RLELossless), threads=threads).hu, expected())


def test_a_multi_frame_series_is_read_frame_by_frame(tmp_path: Path) -> None:
    for n, (syntax, sop_class) in enumerate(
        [(ExplicitVRLittleEndian, None), (RLELossless, None), (ExplicitVRLittleEndian, LegacyConvertedEnhancedCTImageStorage)]
    ):
        frames = stack(ZS)
        frames[2].RescaleIntercept = -1000
        extra = {} if sop_class is None else {"sop_class": sop_class}
        volume = convert_series(write(tmp_path / str(n), [enhanced([frames[k] for k in (5, 0, 3, 2, 1, 4)], **extra)], syntax))
        wanted = expected()
        wanted[:, :, 2] += 24
        np.testing.assert_array_equal(volume.hu, wanted)
        assert len(set(volume.sop_instance_uids)) == 1
        assert len(volume.sop_instance_uids) == 6


def test_a_volume_in_several_multi_frame_files(tmp_path: Path) -> None:
    frames = stack(ZS)
    parts = [enhanced(frames[:2], SOPInstanceUID="1.2.1"), enhanced(frames[2:], SOPInstanceUID="1.2.2")]
    volume = convert_series(write(tmp_path, parts[::-1]))
    np.testing.assert_array_equal(volume.hu, expected())
    assert volume.sop_instance_uids == ("1.2.1",) * 2 + ("1.2.2",) * 4


def test_frames_that_are_not_described_are_unreadable(tmp_path: Path) -> None:
    assert refused(write(tmp_path, [enhanced(stack(ZS), NumberOfFrames=9)])).reason is Reason.UNREADABLE


# -- rescale -----------------------------------------------------------------------------------------------------------------------


def test_rescale_is_taken_slice_by_slice(tmp_path: Path) -> None:
    datasets = stack(ZS)
    datasets[1].RescaleIntercept = -1000
    datasets[2].RescaleSlope = 1.1
    datasets[3].RescaleIntercept = "-1024.4"
    wanted = expected()
    stored = wanted.astype(float) + 1024
    wanted[:, :, 1] += 24
    wanted[:, :, 2] = np.rint(stored[:, :, 2] * 1.1 - 1024)
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets)).hu, wanted)


@pytest.mark.parametrize("signed", [0, 1])
def test_values_beyond_int16_are_clipped(tmp_path: Path, signed: int) -> None:
    datasets = stack(ZS, BitsStored=16, HighBit=15, PixelRepresentation=signed)
    for d in datasets:
        values = np.frombuffer(d.PixelData, "<u2").astype(np.int64).reshape(40, 36)
        if signed:
            values -= 1024
            d.RescaleIntercept = 0
        values[20, 18] = 32767 if signed else 65535
        values[21, 18] = -32768 if signed else 0
        d.RescaleIntercept += 0 if not signed else -10
        d.PixelData = values.astype("<i2" if signed else "<u2").tobytes()
    hu = convert_series(write(tmp_path, datasets)).hu
    assert (hu[18, 20] == (32757 if signed else 32767)).all()
    assert (hu[18, 21] == (-32768 if signed else -1024)).all()


def test_old_overlay_bits_above_the_stored_ones_are_dropped(tmp_path: Path) -> None:
    datasets = stack(ZS)
    for d in datasets:
        values = np.frombuffer(d.PixelData, "<u2").copy()
        values[::7] |= 0x8000
        d.PixelData = values.tobytes()
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets)).hu, expected())


def test_signed_values_of_twelve_bits_are_extended(tmp_path: Path) -> None:
    datasets = stack(ZS, PixelRepresentation=1, RescaleIntercept=0)
    for n, d in enumerate(datasets):
        d.PixelData = (head(seed=n).astype("<i2").view("<u2") & 0x0FFF).tobytes()
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets)).hu, expected())


@pytest.mark.parametrize("limit", [None, 30])
def test_padding_becomes_air_where_it_surrounds_the_image(tmp_path: Path, limit: int | None) -> None:
    datasets = stack(ZS, PixelPaddingValue=4, **({} if limit is None else {"PixelPaddingRangeLimit": limit}))
    for d in datasets:
        values = np.frombuffer(d.PixelData, "<u2").copy()
        values[values == 24] = 4
        d.PixelData = values.tobytes()
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets)).hu, expected())


def test_an_announced_padding_value_that_is_tissue_stays(tmp_path: Path) -> None:
    paths = write(tmp_path, stack(ZS, PixelPaddingValue=1024 + 40))
    hu = convert_series(paths).hu
    assert (hu == 40).any()
    np.testing.assert_array_equal(hu, expected())


@pytest.mark.parametrize(
    "change", [{"RescaleIntercept": 0}, {"RescaleSlope": 10}, {"RescaleIntercept": -3000}, {"RescaleType": "MGML"}]
)
def test_values_that_are_no_hounsfield_units_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    assert refused(write(tmp_path, stack(ZS, **change))).reason is Reason.IMPLAUSIBLE_VALUES


# -- geometry ----------------------------------------------------------------------------------------------------------------------

GRADIENT = np.array([1.5, -2.0, 0.7])


def linear(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A field that linear interpolation reproduces, with soft tissue below and air above."""
    hu: NDArray[np.float64] = points @ GRADIENT + 40
    return hu


def with_air(field: Any) -> Any:
    return lambda points: np.where(points[..., 0] > 25.0, -1000.0, field(points))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("degrees", [-18.5, 12.0])
def test_a_tilted_gantry_is_sheared_back_to_where_everything_is(tmp_path: Path, degrees: float, descending: bool) -> None:
    angle = np.deg2rad(degrees)
    orientation = (1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle))
    zs = np.arange(20) * 2.5
    datasets = [
        field_image(with_air(linear), (-30.0, -20.0, z), orientation, (0.8, 0.7), (60, 90), n)
        for n, z in enumerate(zs[::-1] if descending else zs)
    ]
    volume = convert_series(write(tmp_path, datasets))
    assert volume.hu.shape[0] == 90
    assert volume.hu.shape[1] > 60  # nothing is cut off
    spacing = volume.spacing_mm
    np.testing.assert_allclose(spacing, [0.7, 0.8, 2.5 * np.cos(angle)], atol=1e-6)
    axes = volume.voxel_to_lps[:3, :3] / spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert np.linalg.det(axes) > 0

    index = np.stack(np.meshgrid(*map(np.arange, volume.hu.shape), indexing="ij"), axis=-1)
    points = apply(volume.voxel_to_lps, index)
    # what a slice really covered: its own plane, one pixel off the edge where air is mixed in
    normal = np.cross(orientation[:3], orientation[3:])
    along = points @ normal
    z_of_plane = along / normal[2] + (20.0 * normal[1] + 30.0 * normal[0]) / normal[2]
    way = (
        points - np.stack([np.full(z_of_plane.shape, -30.0), np.full(z_of_plane.shape, -20.0), z_of_plane], axis=-1)
    ) @ orientation[3:]
    inside = (way > 0) & (way < 59 * 0.8) & (points[..., 0] < 24.0)
    assert inside.mean() > 0.4
    assert np.abs(volume.hu - linear(points))[inside].max() <= 1.5  # rounded twice
    outside = (way < -0.81) | (way > 59 * 0.8 + 0.81)
    assert (volume.hu[outside] == AIR_HU).all()
    assert len(volume.sop_instance_uids) == 20


def test_irregular_small_steps_are_interpolated(tmp_path: Path) -> None:
    zs = [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 9.5, 10.0]
    datasets = [field_image(with_air(linear), (-10, -10, z), AXIAL, (1.0, 1.0), (30, 40), n) for n, z in enumerate(zs)]
    volume, reference = convert_with_reference(write(tmp_path, datasets))
    assert volume.sop_instance_uids == ()
    assert len(reference.slices) == 9
    assert volume.hu.shape == (40, 30, 11)
    points = apply(volume.voxel_to_lps, np.stack(np.meshgrid(*map(np.arange, volume.hu.shape), indexing="ij"), axis=-1))
    inside = points[..., 0] <= 25.0
    assert np.abs(volume.hu - linear(points))[inside].max() <= 1.0
    np.testing.assert_allclose(points[0, 0, [0, -1], 2], [0.0, 10.0])


def test_rotated_stacks_keep_right_handed_axes(tmp_path: Path) -> None:
    for n, signs in enumerate(itertools.product((1.0, -1.0), repeat=2)):
        orientation = (signs[0], 0.0, 0.0, 0.0, signs[1], 0.0)
        datasets = [image(head(seed=k), (0, 0, z), k + 1, ImageOrientationPatient=list(orientation)) for k, z in enumerate(ZS)]
        volume = convert_series(write(tmp_path / str(n), datasets))
        assert np.linalg.det(volume.voxel_to_lps[:3, :3]) > 0
        flipped = signs[0] * signs[1] < 0
        np.testing.assert_array_equal(volume.hu, expected()[:, :, ::-1] if flipped else expected())
        assert volume.voxel_to_lps[2, 3] == (15.0 if flipped else 10.0)


# -- what is in the series ---------------------------------------------------------------------------------------------------------


def test_a_file_that_came_twice_counts_once(tmp_path: Path) -> None:
    paths = write(tmp_path, stack(ZS))
    copies = write(tmp_path / "again", stack(ZS, NumberOfSeriesRelatedInstances=6), RLELossless)
    np.testing.assert_array_equal(convert_series(paths + copies[2:4]).hu, expected())


def test_one_uid_on_two_different_images_is_refused(tmp_path: Path) -> None:
    datasets = stack(ZS)
    datasets[3].SOPInstanceUID = datasets[2].SOPInstanceUID
    error = refused(write(tmp_path, datasets))
    assert (error.reason, "SOP Instance UID" in error.detail) == (Reason.MIXED_SERIES, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"PatientID": "P2"}, "2 patients"), ({"StudyInstanceUID": "1.2.3.4"}, "2 studies")],
)
@pytest.mark.parametrize("twin", [False, True])
def test_one_series_of_two_patients_or_studies_is_refused(tmp_path: Path, change: dict[str, str], said: str, twin: bool) -> None:
    datasets = stack(ZS)
    odd = image(head(seed=2), (-5.0, -6.0, ZS[2]), 3, **change)
    error = refused(write(tmp_path, [*datasets, odd] if twin else [*datasets[:2], odd, *datasets[3:]]))
    assert error.reason is Reason.MIXED_SERIES
    assert said in error.detail or (twin and "SOP Instance UID" in error.detail)
    assert "P2" not in error.detail


def test_a_slice_without_patient_id_contradicts_nobody(tmp_path: Path) -> None:
    datasets = [*stack(ZS[:1], PatientID=""), *stack(ZS, PatientID="P1 ")[1:]]
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets)).hu, expected())


def test_a_patient_id_shows_in_no_repr(tmp_path: Path) -> None:
    (path,) = write(tmp_path, stack(ZS[:1], PatientID="SECRET-ID"))
    assert "SECRET-ID" not in repr(slices_of_file(path))


def test_no_files_and_foreign_files_are_unreadable(tmp_path: Path) -> None:
    assert refused([]).reason is Reason.UNREADABLE
    (tmp_path / "note").write_text("no image")
    assert refused([tmp_path / "note"]).reason is Reason.UNREADABLE


PIXEL_FAULTS: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "colour": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, Reason.NOT_A_VOLUME, "in colour"),
    "bits": ({"BitsAllocated": 12}, Reason.UNREADABLE, "bit depth"),
    "short": ({"PixelData": b"\0" * 100}, Reason.UNREADABLE, "cut short"),
    "none": ({"PixelData": None}, Reason.UNREADABLE, "no pixel data"),
}


@pytest.mark.parametrize("fault", PIXEL_FAULTS)
def test_pixel_data_that_cannot_be_right_is_refused_before_decoding(tmp_path: Path, fault: str) -> None:
    change, reason, text = PIXEL_FAULTS[fault]
    error = refused(write(tmp_path, stack(ZS, **change)))
    assert error.reason is reason
    assert text in error.detail


def test_a_file_that_ends_early_is_unreadable(tmp_path: Path) -> None:
    paths = write(tmp_path, stack(ZS))
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    assert "cut short" in refused(paths).detail


def test_an_encoding_without_decoder_is_named(tmp_path: Path) -> None:
    paths = write(tmp_path, stack(ZS))
    for path in paths:  # one that does not exist, of the same length
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    error = refused(paths)
    assert error.reason is Reason.UNSUPPORTED_ENCODING
    assert "1.2.840.10008.1.2.9" in error.detail


def test_a_wrong_transfer_syntax_is_said(tmp_path: Path, shared: Path) -> None:
    error = refused([shared / "data" / "odd" / "wrong_transfer_syntax.dcm"] * 4)
    assert error.reason is Reason.UNREADABLE
    assert "JPEG-LS" in error.detail
    assert "is not compressed" in error.detail


def test_all_faults_of_a_series_are_told_at_once(tmp_path: Path) -> None:
    datasets = stack([0.0, 10.0, 20.0, 40.0], RescaleType="MGML")
    datasets[1].FrameOfReferenceUID = "1.9"
    error = refused(write(tmp_path, datasets))
    assert error.reason is Reason.MIXED_SERIES
    assert "2 frames of reference" in error.detail
    assert "20.00 mm" in error.detail
    assert "MGML" in error.detail
