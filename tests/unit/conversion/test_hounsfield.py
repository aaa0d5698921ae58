"""From stored values to Hounsfield units, value by value, and what makes a volume implausible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conversion.decoders import PixelFormat
from conversion.hounsfield import (
    AIR_BELOW_HU,
    JUMP_FACTOR,
    LEAST_JUMP_HU,
    MINIMUM_SHARE,
    SOFT_TISSUE_HU,
    check_plausible,
    to_hounsfield,
)
from conversion.slices import Rescale
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason

WORDS = PixelFormat(
    rows=3,
    columns=3,
    bits_allocated=16,
    bits_stored=16,
    high_bit=15,
    signed=False,
    samples=1,
    photometric="MONOCHROME2",
    padding=None,
)
TWELVE = replace(WORDS, bits_stored=12, high_bit=11)
CT = Rescale(1.0, -1024.0)


def hu(values: Any, pixels: PixelFormat = WORDS, rescale: Rescale = CT, dtype: str = "<u2") -> list[int]:
    stored = np.array([values], dtype)
    out = np.full(stored.shape, 7, np.int16)
    to_hounsfield(stored, pixels, rescale, out)
    found: list[int] = out[0].tolist()
    return found


# rescale --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "signed", "rescale", "wanted"),
    [
        ([0, 1024, 5119], "<u2", False, CT, [-1024, 0, 4095]),
        ([-1024, 0, 3071], "<i2", True, Rescale(), [-1024, 0, 3071]),
        # at the ends of int16, and clipped beyond them
        ([0, 32767], "<u2", False, Rescale(), [0, 32767]),
        ([0, 32768], "<u2", False, Rescale(), [0, 32767]),
        ([0, 65535], "<u2", False, Rescale(1.0, -32767.0), [-32767, 32767]),
        ([1, 65535], "<u2", False, Rescale(1.0, -32768.0), [-32767, 32767]),
        ([-32768, 0], "<i2", True, Rescale(1.0, -1.0), [-32768, -1]),
        ([-32768, 32767], "<i2", True, Rescale(1.0, 1.0), [-32767, 32767]),
        ([0, 1], "<u2", False, Rescale(1.0, 32767.0), [32767, 32767]),
        ([0, 1], "<u2", False, Rescale(1.0, -40000.0), [-32768, -32768]),
        # slopes, and intercepts that are no whole number, rounded to even halves
        ([0, 1, 2], "<u2", False, Rescale(2.0, -3.0), [-3, -1, 1]),
        ([0, 1, 2, 3], "<u2", False, Rescale(0.5, 0.0), [0, 0, 1, 2]),
        ([0, 1, 2], "<u2", False, Rescale(1.0, 0.4), [0, 1, 2]),
        ([0, 1, 2], "<u2", False, Rescale(1.0, -0.6), [-1, 0, 1]),
        ([0, 60000], "<u2", False, Rescale(-1.0, 1000.0), [1000, -32768]),
        ([0, 60000], "<u2", False, Rescale(2.0, 0.0), [0, 32767]),
        # one byte, and four
        ([0, 255], "<u1", False, Rescale(1.0, -100.0), [-100, 155]),
        ([0, 4_000_000_000], "<u4", False, CT, [-1024, 32767]),
        ([0, 30000], "<u4", False, CT, [-1024, 28976]),
    ],
)  # fmt: skip
def test_a_rescale(values: list[int], dtype: str, signed: bool, rescale: Rescale, wanted: list[int]) -> None:
    bits = np.dtype(dtype).itemsize * 8
    pixels = replace(WORDS, bits_allocated=bits, bits_stored=bits, high_bit=bits - 1, signed=signed)
    assert hu(values, pixels, rescale, dtype) == wanted


def test_values_may_be_rescaled_in_place() -> None:
    stored = np.array([[0, 1024, 2048]], "<u2")
    to_hounsfield(stored, WORDS, CT, stored.view(np.int16))
    assert stored.view(np.int16).tolist() == [[-1024, 0, 1024]]


# bits -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "stored", "wanted"),
    [
        # 12 bits in a word: what lies above is an old overlay
        (TWELVE, [0x0000, 0x0FFF, 0xF123], [0, 0x0FFF, 0x0123]),
        (replace(TWELVE, signed=True), [0x07FF, 0x0800, 0x0FFF, 0xF7FF, 0xF800], [2047, -2048, -1, 2047, -2048]),
        # 12 bits in the upper part of a word
        (replace(TWELVE, high_bit=15), [0x1230, 0xFFFF, 0x123F], [0x123, 0xFFF, 0x123]),
        (replace(TWELVE, high_bit=15, signed=True), [0x7FF0, 0x8000, 0xFFF0], [2047, -2048, -1]),
        # 10 bits in the middle
        (replace(WORDS, bits_stored=10, high_bit=12), [0x0008, 0x1FF8, 0xE00F], [1, 0x3FF, 1]),
        (replace(WORDS, signed=True), [0x8000, 0xFFFF, 0x7FFF], [-32768, -1, 32767]),
    ],
)  # fmt: skip
def test_the_bits_stored(pixels: PixelFormat, stored: list[int], wanted: list[int]) -> None:
    """PS3.5 8.1.1."""
    dtype = "<i2" if pixels.signed else "<u2"
    assert hu(np.array(stored, "<u2").view(dtype), pixels, Rescale(), dtype) == wanted


# padding --------------------------------------------------------------------------------------------------------------------------


def padded(values: list[list[int]], padding: tuple[int, int], *, signed: bool = False) -> list[list[int]]:
    dtype = "<i2" if signed else "<u2"
    stored = np.array(values, dtype)
    out = np.zeros(stored.shape, np.int16)
    to_hounsfield(stored, replace(WORDS, signed=signed, padding=padding), Rescale(), out)
    found: list[list[int]] = out.tolist()
    return found


@pytest.mark.parametrize("corner", [(0, 0), (0, 2), (2, 0), (2, 2)])
def test_padding_that_reaches_a_corner_is_air_everywhere(corner: tuple[int, int]) -> None:
    """PS3.3 C.7.5.1.1.2."""
    values = [[5, 5, 5], [5, 9, 5], [5, 5, 5]]
    values[corner[0]][corner[1]] = 9
    wanted = [[-1000 if v == 9 else v for v in row] for row in values]
    assert padded(values, (9, 9)) == wanted


def test_a_value_inside_alone_is_tissue() -> None:
    values = [[5, 9, 5], [9, 9, 9], [5, 9, 5]]
    assert padded(values, (9, 9)) == values
    assert padded([[5, 9]], (9, 9)) == [[5, -1000]], "an image of one row has corners too"
    assert padded([[9]], (9, 9)) == [[-1000]]


@pytest.mark.parametrize("padding", [(10, 20), (20, 10)])
def test_a_range_of_padding(padding: tuple[int, int]) -> None:
    assert padded([[10, 5, 20], [9, 15, 21], [5, 5, 5]], padding) == [[-1000, 5, -1000], [9, -1000, 21], [5, 5, 5]]
    assert padded([[9, 5, 21], [5, 15, 5], [5, 5, 5]], padding) == [[9, 5, 21], [5, 15, 5], [5, 5, 5]], "beside both of its ends"


@pytest.mark.parametrize("word", [0xF830, -2000])
def test_padding_of_signed_pixels_is_read_as_signed(word: int) -> None:
    """Its VR is ambiguous (PS3.6: US or SS), and some headers hold it as unsigned."""
    assert padded([[-2000, 5, 5], [5, -2000, 5], [5, 5, 5]], (word, word), signed=True)[0] == [-1000, 5, 5]
    assert padded([[32767, 5, 5]], (32767, 32767), signed=True) == [[-1000, 5, 5]]
    assert padded([[-32768, 5, 5]], (0x8000, 0x8000), signed=True) == [[-1000, 5, 5]]


# plausible ------------------------------------------------------------------------------------------------------------------------


def volume(air: float, soft: float, slices: int = 4, other: int = 1500) -> np.ndarray:
    """10 x 10 voxels a slice: shares of air and of soft tissue, and bone."""
    flat = np.full(100, other, np.int16)
    flat[: round(100 * air)] = -1000
    flat[100 - round(100 * soft) :] = 40
    return np.repeat(flat.reshape(1, 10, 10), slices, axis=0)


def plausible(hu_: np.ndarray, step_mm: float = 1.0) -> str:
    try:
        check_plausible(hu_, np.arange(len(hu_)) * step_mm)
    except NotAnalysed as error:
        assert error.reason is Reason.IMPLAUSIBLE_VALUES
        return error.detail
    return ""


@pytest.mark.parametrize(
    ("air", "soft", "detail"),
    [
        (0.5, 0.5, ""),
        (0.01, 0.01, ""),
        (0.0, 0.5, "Air: 0.0% of the voxels, soft tissue: 50.0%; values from 40 to 1500 HU."),
        (0.5, 0.0, "Air: 50.0% of the voxels, soft tissue: 0.0%; values from -1000 to 1500 HU."),
    ],
)
def test_air_and_soft_tissue_are_there(air: float, soft: float, detail: str) -> None:
    assert plausible(volume(air, soft)) == detail
    assert (AIR_BELOW_HU, SOFT_TISSUE_HU, MINIMUM_SHARE) == (-700, (-20, 120), 0.01)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(-701, "air"), (-700, ""), (-21, ""), (-20, "soft"), (0, "soft"), (120, "soft"), (121, "")],
)
def test_what_counts_as_air_and_as_soft_tissue(value: int, kind: str) -> None:
    half = np.full((3, 8, 8), value, np.int16)
    half[:, :4] = -1000 if kind != "air" else 40
    assert (plausible(half) == "") is bool(kind)


def test_an_hundredth_is_enough_and_less_is_not() -> None:
    one_percent = np.full((1, 10, 20), 40, np.int16)
    one_percent[0, 0, :2] = -1000
    assert plausible(one_percent) == ""
    one_percent[0, 0, 1] = 40
    assert plausible(one_percent) != ""


def test_a_large_volume_is_sampled() -> None:
    hu_ = np.full((2, 640, 640), 40, np.int16)
    hu_[:, ::20, ::20] = -1000
    assert plausible(hu_) == "Air: 100.0% of the voxels, soft tissue: 0.0%; values from -1000 to -1000 HU."
    hu_[:, :320] = 40
    assert plausible(hu_) == ""


def alternating(values: list[int]) -> np.ndarray:
    """Slices, half of each air, half of each of one value."""
    hu_ = np.full((len(values), 10, 10), -1000, np.int16)
    hu_[:, :5] = np.array(values, np.int16)[:, None, None]
    return hu_


def jump(pair: tuple[int, int], count: int) -> str:
    return (
        f"Slices {pair[0]} and {pair[1]} of {count}, counted along the stack, differ more than neighbours do: "
        "one of them is blank or damaged."
    )


@pytest.mark.parametrize(
    ("values", "step_mm", "pair"),
    [
        ([40, 40, 40, 40], 1.0, None),
        # half of the voxels change by 400, all of them by 200 on average
        ([0, 0, 400, 400], 1.0, None),
        ([0, 0, -402, -402], 1.0, (2, 3)),
        ([0, 0, 0, -402, 0, 0, 0], 1.0, (3, 4)),
        ([0, 0, 0, -402], 1.0, (3, 4)),
        # values beyond -1000 and 400 are not compared
        ([0, 0, 3000, 3000], 1.0, None),
        ([-1, -1, -1, 400, 400, 400], 1.0, (3, 4)),
        ([-1, -1, -1, 399, 399, 399], 1.0, None),
        ([40, 40, 40, -3000, 40, 40, 40], 1.0, (3, 4)),
        # where all slices change much, four times as much is a jump
        ([100, 0, 100, 0, 100, 0, -399, -399], 1.0, None),
        ([120, 0, 120, 0, 120, 0, -470, -470], 1.0, None),
        ([120, 0, 120, 0, 120, 0, -490, -490], 1.0, (6, 7)),
        # slices of more than the planned step are no neighbours
        ([0, 0, -402, -402], 7.5, (2, 3)),
        ([0, 0, -402, -402], 7.6, None),
    ],
)
def test_a_slice_unlike_its_neighbours(values: list[int], step_mm: float, pair: tuple[int, int] | None) -> None:
    assert (LEAST_JUMP_HU, JUMP_FACTOR) == (200.0, 4.0)
    assert plausible(alternating(values), step_mm) == ("" if pair is None else jump(pair, len(values)))


def test_one_slice_has_no_neighbour() -> None:
    assert plausible(alternating([40])) == ""


def head_between(around: list[int], head: list[int], *, half_lost: int | None = None) -> np.ndarray:
    """Slices with a head of one value in the middle third and one value around it; in one slice half of the head may be lost."""
    hu_ = np.repeat(np.array(around, np.int16), 900).reshape(len(around), 30, 30)
    hu_[:, 10:20, 10:20] = np.array(head, np.int16)[:, None, None]
    hu_[:, 0] = -1000
    if half_lost is not None:
        hu_[half_lost, :, :15] = -1000
    return hu_


@pytest.mark.parametrize(
    ("stack", "pair"),
    [
        # a holder ends, shoulders begin, the reconstruction circle changes: the head goes on
        (head_between([-1000, -1000, -1000, 40, 40, 40], [40] * 6), None),
        (head_between([40, 40, 40, -1000, -1000, -1000], [40] * 6), None),
        (head_between([-1000, -1000, 40, 40, -1000, -1000], [40] * 6), None),
        (head_between([-1000, -1000, -1000, 40, 40, 40], [40, 40, 40, 139, 139, 139]), None),
        # the head itself ends or changes its values
        (head_between([40, 40, 40, -1000, -1000, -1000], [40, 40, 40, -1000, -1000, -1000]), (3, 4)),
        (head_between([-1000, -1000, -1000, 40, 40, 40], [40, 40, 40, 141, 141, 141]), (3, 4)),
        # a lone slice unlike both neighbours is damaged, though what is left of the head goes on
        (head_between([-1000, -1000, -1000, 40, -1000, -1000, -1000], [40] * 7), (3, 4)),
        (head_between([40] * 7, [40] * 7, half_lost=3), (3, 4)),
    ],
)
def test_a_hard_edge_around_a_head_that_goes_on_is_no_damage(stack: np.ndarray, pair: tuple[int, int] | None) -> None:
    assert plausible(stack) == ("" if pair is None else jump(pair, len(stack)))
