"""Damaged files: whatever bytes change, a series ends as a volume or with a reason, never with another error."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from conversion.convert import convert_series
from conversion.elements import DEFLATED
from conversion.frames import LARGEST_IMAGE, LARGEST_VOLUME, decode_into
from conversion.headers import read_instance
from conversion.series_reference import write_source_header
from conversion.slices import slices_of_file
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from tests.support_conversion import enhanced, stack, write

ZS = [0.0, 1.0, 2.0, 3.0]
KINDS = {
    "explicit": lambda folder: write(folder, stack(ZS), ExplicitVRLittleEndian),
    "implicit": lambda folder: write(folder, stack(ZS), ImplicitVRLittleEndian),
    "deflated": lambda folder: write(folder, stack(ZS), DeflatedExplicitVRLittleEndian),
    "compressed": lambda folder: write(folder, stack(ZS), JPEGLSLossless),
    "enhanced": lambda folder: write(folder, [enhanced(stack(ZS))]),
}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_end_in_a_volume_or_a_reason(tmp_path: Path, kind: str) -> None:
    paths = KINDS[kind](tmp_path)
    path = paths[-1]
    whole = path.read_bytes()
    places = st.integers(128, min(len(whole) - 1, 3500 if kind == "enhanced" else 1500))
    values = st.sampled_from([0, 1, 0x20, 0x2D, 0x5C, 0x7F, 0xFF]) | st.integers(0, 255)

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(changes=st.lists(st.tuples(places, values), min_size=1, max_size=8), length=st.none() | places)
    def damage(changes: list[tuple[int, int]], length: int | None) -> None:
        data = bytearray(whole)
        for place, value in changes:
            data[place] = value
        path.write_bytes(data[:length])
        for work in (
            lambda: read_instance(path),
            lambda: convert_series(paths, threads=1),
            lambda: write_source_header(path, tmp_path / "header"),
        ):
            try:
                work()
            except NotAnalysed as error:
                assert error.detail

    damage()


def swollen(path: Path, before: Dataset, after: int) -> None:
    """Write a deflated slice with the elements `before` in front of it and `after` bytes of nulls behind it."""
    (plain,) = write(path.parent, stack([0.0]), ExplicitVRLittleEndian)
    dataset = dcmread(plain)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.update(before)
    dataset.save_as(path, enforce_file_format=True)
    if after:
        whole = path.read_bytes()
        begin = 144 + int.from_bytes(whole[140:144], "little")  # of the meta header, PS3.10 7.1
        again = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = zlib.decompress(whole[begin:], wbits=-zlib.MAX_WBITS) + bytes(after)
        path.write_bytes(whole[:begin] + again.compress(body) + again.flush())


def long_element(tag: int, vr: str) -> Dataset:
    dataset = Dataset()
    dataset.add_new(tag, vr, bytes(_BOMB) if vr == "OB" else " " * _BOMB)
    return dataset


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(work: Callable[[], object]) -> None:
    with pytest.raises(NotAnalysed, match="larger than is allowed"):
        work()


_BOMB = 100 << 20


@pytest.mark.parametrize(("tag", "vr"), [(0x00091001, "OB"), (0x0008103E, "UT")])
def test_a_header_that_swells_is_refused_and_costs_no_memory(tmp_path: Path, tag: int, vr: str) -> None:
    path = tmp_path / "bomb.dcm"
    swollen(path, long_element(tag, vr), 0)
    assert path.stat().st_size < _BOMB / 500
    for work in (lambda: read_instance(path), lambda: write_source_header(path, tmp_path / "header")):
        assert peak_bytes(lambda work=work: refused(work)) < 16 << 20


def test_of_a_file_that_swells_behind_its_image_nothing_more_is_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.dcm"
    swollen(path, Dataset(), _BOMB)
    (plain,) = write(tmp_path / "plain", stack([0.0]), ExplicitVRLittleEndian)

    def read() -> None:
        assert read_instance(path).rows == read_instance(plain).rows
        slices = slices_of_file(path)
        out = np.zeros((1, slices[0].pixels.rows, slices[0].pixels.columns), np.int16)
        decode_into(slices, [0], out)
        np.testing.assert_array_equal(out, decoded(plain))

    def decoded(of: Path) -> NDArray[np.int16]:
        (one,) = slices_of_file(of)
        out = np.zeros((1, one.pixels.rows, one.pixels.columns), np.int16)
        decode_into([one], [0], out)
        return out

    assert peak_bytes(read) < 16 << 20


def test_the_deflated_uid_as_another_value_deflates_nothing(tmp_path: Path) -> None:
    (path,) = write(tmp_path, stack([0.0], SeriesDescription=DEFLATED))
    assert read_instance(path).transfer_syntax_uid == ExplicitVRLittleEndian
    assert read_instance(path).series_description == DEFLATED


def test_a_bogus_number_of_frames_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotAnalysed, match="where its frames lie"):
        convert_series(write(tmp_path, stack(ZS, NumberOfFrames=999_999_999)))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_an_image_size_that_asks_for_all_memory_is_refused(tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code stream of a few hundred bytes can hold such an image: nothing else but the limit speaks against it."""

    def reject(*_: object) -> None:
        pytest.fail("the decoder was asked")

    for name in ("jpeg2k_decode", "jpegls_decode", "jpeg8_decode", "dicomrle_decode"):
        monkeypatch.setattr(imagecodecs, name, reject)
    refuse_all_memory(paths_of_size(tmp_path / "one", 65_535, 65_535, syntax), f"65535 x 65535 pixels; {LARGEST_IMAGE} are allowed")
    refuse_all_memory(
        paths_of_size(tmp_path / "all", 4096, 4096, syntax, 70),
        f"70 images with {70 << 24} pixels; {LARGEST_VOLUME} are",
        Reason.TOO_LARGE,
    )


def refuse_all_memory(paths: list[Path], said: str, reason: Reason = Reason.UNREADABLE) -> None:
    def work() -> None:
        with pytest.raises(NotAnalysed, match=said) as caught:
            convert_series(paths)
        assert caught.value.reason is reason

    assert peak_bytes(work) < 8 << 20


def paths_of_size(folder: Path, rows: int, columns: int, syntax: str, count: int = 4) -> list[Path]:
    """Small images whose headers announce another size."""
    paths = write(folder, stack([float(n) for n in range(count)]), syntax)
    for path in paths:
        dataset = dcmread(path)
        dataset.Rows, dataset.Columns = rows, columns
        dataset.save_as(path, enforce_file_format=True)
    return paths
