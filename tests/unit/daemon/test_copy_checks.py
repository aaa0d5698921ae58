"""Half a copied folder is given more time; a whole one, and what is not analysed anyway, is not delayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.selection import Rule
from daemon.watch.copy_checks import BROKEN_OFF, DroppedImage, broken_off
from tests.support.instances import stack
from tests.support.spool import head
from tests.support.watched_inbox import SETTLE_S, STAMP, WatchedInbox

RULES = (Rule("cta-head", text="(?i)head", min_slices=8, min_coverage_mm=24),)
PARTIAL_S = 60.0


def images(count: int, *, acquired: int | None = None, **facts: Any) -> list[DroppedImage]:
    facts = {"body_part": "HEAD", "acquisition_number": 1} | facts
    return [DroppedImage(i, acquired) for i in stack(count, **facts)]


def test_a_whole_series_is_whole() -> None:
    assert broken_off(images(60), RULES) is None
    assert broken_off(images(60, instances_in_series=60), RULES) is None
    assert broken_off(images(60, acquired=60), RULES) is None
    assert broken_off([], RULES) is None


def test_a_repeated_file_counts_once() -> None:
    assert broken_off([*images(30), *images(30)], RULES) is None
    assert broken_off([*images(30, instances_in_series=60)] * 2, RULES) is not None


@given(st.integers(1, 59))
def test_fewer_than_announced(count: int) -> None:
    assert f"{count} of 60" in str(broken_off(images(60, instances_in_series=60)[:count], RULES))
    assert f"{count} of 60" in str(broken_off(images(60, acquired=60)[:count], RULES))


@given(st.integers(1, 58))
def test_a_gap(missing: int) -> None:
    part = images(60)
    del part[missing]
    assert "gaps" in str(broken_off(part, RULES))


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_too_few_to_be_a_head(count: int) -> None:
    assert str(broken_off(images(count), RULES)).startswith(BROKEN_OFF)


@pytest.mark.parametrize("facts", [{"body_part": "", "series_description": "", "study_description": "CHEST"}, {"modality": "MR"}])
def test_what_is_not_analysed_delays_nothing(facts: dict[str, Any]) -> None:
    part = images(60, instances_in_series=600, **facts)
    del part[20]
    assert broken_off(part, RULES) is None


def dropped(folder: Path, series: list[tuple[str, bytes]]) -> WatchedInbox:
    watched = WatchedInbox(folder, partial_s=PARTIAL_S)
    (watched.path / "drop").mkdir()
    add(watched, series)
    return watched


def add(watched: WatchedInbox, series: list[tuple[str, bytes]]) -> None:
    for uid, data in series:
        (watched.path / "drop" / f"{uid}.dcm").write_bytes(data)


@pytest.mark.parametrize("pause_s", [5, 9, 59])
def test_a_copy_that_pauses_is_not_moved_away(tmp_path: Path, pause_s: float) -> None:
    series = head(slices=60)
    watched = dropped(tmp_path, series[:20])
    watched.settle()
    watched.poll(pause_s - SETTLE_S)
    assert watched.names() == ["drop"]
    add(watched, series[20:])
    watched.settle()
    assert watched.names() == []
    assert [len(a["files"]) for a in watched.arrivals()] == [60]
    assert watched.names("processed") == [f"{STAMP}drop"], "nothing is left to say"


def test_a_copy_that_never_ends_is_ingested_and_the_note_says_so(tmp_path: Path) -> None:
    watched = dropped(tmp_path, head(slices=20))
    watched.settle()
    watched.poll(PARTIAL_S)
    assert [len(a["files"]) for a in watched.arrivals()] == [20]
    assert BROKEN_OFF in (watched.path / "processed" / f"{STAMP}drop.reason.txt").read_text()


def test_a_whole_series_is_ingested_at_once(tmp_path: Path) -> None:
    watched = dropped(tmp_path, head(slices=60))
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [60]
