"""Values that one image has otherwise than the rest: the series is refused, never analysed with one slice in another unit."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from conversion.convert import convert_series, convert_with_reference
from conversion.headers import read_instance
from corewatch.reasons import Reason
from tests.support_conversion import enhanced, field_image, head, image, stack, write
from tests.unit.conversion.test_convert import ZS, expected, refused

RESCALE_INTERCEPT, RESCALE_SLOPE = (0x0028, 0x1052), (0x0028, 0x1053)


def rewrite(path: Path, tag: tuple[int, int], value: bytes) -> None:
    """Replace a decimal string of an explicit file, whatever the new one is."""
    whole = path.read_bytes()
    at = whole.index(struct.pack("<HH2s", *tag, b"DS"))
    (length,) = struct.unpack_from("<H", whole, at + 6)
    value += b" " * (len(value) % 2)
    path.write_bytes(whole[: at + 6] + struct.pack("<H", len(value)) + value + whole[at + 8 + length :])


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "RescaleSlope"])
def test_one_image_without_rescale_ends_the_series(tmp_path: Path, keyword: str) -> None:
    datasets = stack(ZS)
    delattr(datasets[2], keyword)
    error = refused(write(tmp_path, datasets))
    assert error.reason is Reason.IMPLAUSIBLE_VALUES
    assert error.detail.startswith("1 of 6 images have no rescale slope or intercept")


def test_one_frame_without_rescale_ends_the_series(tmp_path: Path) -> None:
    frames = enhanced(stack(ZS))
    del frames.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence
    assert "1 of 6 images have no rescale" in refused(write(tmp_path, [frames])).detail


def test_a_shared_rescale_is_that_of_every_frame(tmp_path: Path) -> None:
    frames = enhanced(stack(ZS))
    shared = frames.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = frames.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence
    for item in frames.PerFrameFunctionalGroupsSequence[::2]:
        del item.PixelValueTransformationSequence
    np.testing.assert_array_equal(convert_series(write(tmp_path, [frames])).hu, expected())


def test_where_no_image_has_a_rescale_stored_values_may_be_hounsfield_units(tmp_path: Path) -> None:
    datasets = stack(ZS, PixelRepresentation=1, BitsStored=16, HighBit=15, RescaleSlope=None, RescaleIntercept=None)
    for n, d in enumerate(datasets):
        d.PixelData = head(seed=n).astype("<i2").tobytes()
    np.testing.assert_array_equal(convert_series(write(tmp_path / "hu", datasets)).hu, expected())
    raw = stack(ZS, RescaleSlope=None, RescaleIntercept=None)
    assert refused(write(tmp_path / "raw", raw)).reason is Reason.IMPLAUSIBLE_VALUES


@pytest.mark.parametrize("tag", [RESCALE_INTERCEPT, RESCALE_SLOPE])
@pytest.mark.parametrize("value", [b"1,0", b"abc", b"1_0", b"nan", b"inf", b"1E999"])
def test_a_rescale_that_is_no_number_ends_the_series(tmp_path: Path, tag: tuple[int, int], value: bytes) -> None:
    paths = write(tmp_path, stack(ZS))
    rewrite(paths[2], tag, value)
    error = refused(paths)
    assert (error.reason, "1 of 6 images is no number" in error.detail) == (Reason.IMPLAUSIBLE_VALUES, True)


@pytest.mark.parametrize("value", [b"", b"0", b"-0.0", b"0E5"])
def test_an_empty_or_zero_slope_ends_the_series(tmp_path: Path, value: bytes) -> None:
    paths = write(tmp_path, stack(ZS))
    rewrite(paths[2], RESCALE_SLOPE, value)
    assert refused(paths).reason is Reason.IMPLAUSIBLE_VALUES


@pytest.mark.parametrize("value", [b"-1024", b" -1024.0 ", b"-1.024E3", b"-.1024e+04", b"-1024."])
def test_decimal_strings_of_every_form_are_read(tmp_path: Path, value: bytes) -> None:
    paths = write(tmp_path, stack(ZS))
    rewrite(paths[2], RESCALE_INTERCEPT, value)
    np.testing.assert_array_equal(convert_series(paths).hu, expected())


def test_a_negative_slope_is_followed(tmp_path: Path) -> None:
    datasets = stack(ZS, RescaleSlope=-1, RescaleIntercept=1000)
    for n, d in enumerate(datasets):
        d.PixelData = (1000 - head(seed=n).astype(np.int32)).astype("<u2").tobytes()
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets)).hu, expected())


ODD_SLICES: dict[str, dict[str, Any]] = {
    "blank": {"PixelData": bytes(2 * 40 * 36)},
    "another sign": {"PixelRepresentation": 1, "BitsStored": 12},
    "another scale": {"RescaleSlope": 30},
    "another intercept": {"RescaleIntercept": 0},
}


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("kind", ODD_SLICES)
def test_a_slice_of_other_values_than_its_neighbours_ends_the_series(tmp_path: Path, kind: str, at: int) -> None:
    datasets = stack(ZS, RescaleIntercept=-2048)
    for n, d in enumerate(datasets):
        d.PixelData = (head(seed=n).astype(np.int32) + 2048).astype("<u2").tobytes()
    assert convert_series(write(tmp_path / "good", datasets)).hu.shape == (36, 40, 6)
    for keyword, value in ODD_SLICES[kind].items():
        setattr(datasets[at], keyword, value)
    error = refused(write(tmp_path / "odd", datasets))
    assert error.reason is Reason.IMPLAUSIBLE_VALUES
    pair = max(at, 1)
    assert f"Slices {pair} and {pair + 1} of 6" in error.detail


def test_unsigned_words_of_four_bytes_are_clipped(tmp_path: Path) -> None:
    datasets = stack(ZS, BitsAllocated=32, BitsStored=32, HighBit=31)
    wanted = expected()
    for n, d in enumerate(datasets):
        values = (head(seed=n).astype(np.int64) + 1024).astype("<u4")
        values[20, 18] = 4_000_000_000
        wanted[18, 20, n] = 32767
        d.PixelData = values.tobytes()
    np.testing.assert_array_equal(convert_series(write(tmp_path, datasets)).hu, wanted)


# -- a meta header that lies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "said"), [(ExplicitVRLittleEndian, ImplicitVRLittleEndian), (ImplicitVRLittleEndian, ExplicitVRLittleEndian)]
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_meta_header_that_names_the_other_kind_of_vr_moves_no_pixel(tmp_path: Path, written: str, said: str) -> None:
    paths = write(tmp_path, stack(ZS), written)
    for path in paths:
        whole = path.read_bytes()
        named, instead = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (written, said))
        at = whole.index(struct.pack("<HH2sH", 2, 0x10, b"UI", len(named)) + named)
        length = struct.unpack_from("<L", whole, 140)[0] + len(instead) - len(named)
        element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(instead)) + instead
        path.write_bytes(whole[:140] + struct.pack("<L", length) + whole[144:at] + element + whole[at + 8 + len(named) :])
        assert read_instance(path).transfer_syntax_uid == said
    np.testing.assert_array_equal(convert_series(paths).hu, expected())


# -- what came twice, and what was done --------------------------------------------------------------------------------------------


def test_copies_that_show_the_same_count_once_and_are_told(tmp_path: Path) -> None:
    paths = write(tmp_path / "first", stack(ZS))
    again = write(tmp_path / "again", stack(ZS), RLELossless)[:2] + write(tmp_path / "third", stack(ZS), JPEG2000Lossless)[:1]
    volume, reference = convert_with_reference([*again, *paths])
    np.testing.assert_array_equal(volume.hu, expected())
    assert reference.notes == ("Received again and counted once: 3 instances.",)


@pytest.mark.parametrize("first", [True, False])
def test_copies_that_show_something_else_end_the_series(tmp_path: Path, first: bool) -> None:
    paths = write(tmp_path / "a", stack(ZS))
    other = image(head(seed=2), (-5.0, -6.0, ZS[2]), 3)
    values = np.frombuffer(other.PixelData, "<u2").copy()
    values[40 * 18 + 18] += 1
    other.PixelData = values.tobytes()
    (copy,) = write(tmp_path / "b", [other])
    error = refused([copy, *paths] if first else [*paths, copy])
    assert error.reason is Reason.MIXED_SERIES
    assert error.detail == "1 instances have the SOP Instance UID of another one but differ from it."


def tilted(degrees: float) -> list[Dataset]:
    angle = np.deg2rad(degrees)
    orientation = (1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle))

    def field(points: np.ndarray) -> np.ndarray:
        return np.where(points[..., 0] > 5.0, -1000.0, 40.0)

    return [field_image(field, (-20.0, -20.0, 2.5 * n), orientation, (0.8, 0.8), (50, 60), n) for n in range(8)]


def test_a_tilt_and_an_interpolation_are_told(tmp_path: Path) -> None:
    _, reference = convert_with_reference(write(tmp_path / "tilted", tilted(-18.5)))
    assert reference.notes == ("Gantry tilted by 18.5°; slices moved back.",)
    uneven = [image(head(seed=n), (0, 0, z), n + 1) for n, z in enumerate([0.0, 1.0, 2.0, 4.0, 5.0])]
    _, reference = convert_with_reference(write(tmp_path / "uneven", uneven))
    assert reference.notes == ("Interpolated: slices 1.00 to 2.00 mm apart.",)
    _, reference = convert_with_reference(write(tmp_path / "even", stack(ZS)))
    assert reference.notes == ()
