"""Damaged files: whatever bytes change, a series ends as a volume or with a reason, never with another error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from conversion.convert import convert_series
from conversion.elements import DEFLATED
from conversion.headers import read_instance
from conversion.source import write_source_header
from corewatch.errors import NotAnalysed
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


def test_a_deflated_file_that_swells_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path, stack(ZS), DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("conversion.elements._LARGEST_INFLATED", 2000)
    with pytest.raises(NotAnalysed, match="larger than is allowed"):
        convert_series(paths)


def test_the_deflated_uid_as_another_value_deflates_nothing(tmp_path: Path) -> None:
    (path,) = write(tmp_path, stack([0.0], SeriesDescription=DEFLATED))
    assert read_instance(path).transfer_syntax_uid == ExplicitVRLittleEndian
    assert read_instance(path).series_description == DEFLATED


def test_a_bogus_number_of_frames_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotAnalysed, match="where its frames lie"):
        convert_series(write(tmp_path, stack(ZS, NumberOfFrames=999_999_999)))


def test_an_image_size_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnalysed, match="larger than any head"):
        convert_series(write(tmp_path, stack(ZS, Rows=60_000, Columns=60_000)))
