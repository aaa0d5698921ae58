"""Drops that are copied in parts: a zip whose upload pauses, a CD with a DICOMDIR."""

from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.fileset import FileSet

from daemon.watch.dicomdir import comparable, count_missing, is_index, referenced_files
from daemon.watch.ingest import INDEX_ONLY
from daemon.watch.rejection import drop_id
from tests.support.listener import ct_slice
from tests.support.watched_inbox import SETTLE_S, STAMP, WatchedInbox, image

PATIENCE_S = 600.0


@pytest.fixture
def watched(tmp_path: Path) -> WatchedInbox:
    return WatchedInbox(tmp_path)


def archive_of(*numbers: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in numbers:
            archive.writestr(str(number), image(number))
    return buffer.getvalue()


def test_the_inbox_waits_for_an_upload_that_pauses(watched: WatchedInbox) -> None:
    whole = archive_of(1, 2)
    path = watched.path / "case.zip"
    path.write_bytes(whole[:1000])
    watched.settle()
    watched.poll(SETTLE_S)
    watched.poll(PATIENCE_S - 3 * SETTLE_S)
    assert (watched.names(), watched.rejected) == (["case.zip"], [])
    with path.open("ab") as file:
        file.write(whole[1000:])
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [2]
    assert watched.names("processed") == [STAMP + "case.zip"]


def test_an_upload_that_never_ends_is_rejected_with_the_reason(watched: WatchedInbox) -> None:
    (watched.path / "case.zip").write_bytes(archive_of(1, 2)[:1000])
    (watched.path / "other.zip").write_bytes(archive_of(3))
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [1], "others are not kept waiting"
    watched.poll(PATIENCE_S)
    assert [(r.drop_id, r.reason) for r in watched.rejected] == [
        (drop_id("case.zip"), "The zip has no end: it was not written or uploaded completely.")
    ]
    assert STAMP + "case.zip" in watched.names("rejected")


def test_a_damaged_zip_with_an_end_record_is_rejected_at_once(watched: WatchedInbox) -> None:
    whole = archive_of(1)
    (watched.path / "case.zip").write_bytes(whole[:200] + whole[400:])
    watched.settle()
    assert len(watched.rejected) == 1


# media ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CD with six slices and its index."""
    folder = tmp_path_factory.mktemp("media") / "disc"
    media = FileSet()
    for number in range(1, 7):
        slice_ = ct_slice(number)
        slice_.StudyDate, slice_.StudyTime, slice_.StudyID = "20260101", "0800", "1"
        slice_.SeriesNumber, slice_.AccessionNumber = 1, ""
        media.add(slice_)
    media.write(folder)
    return folder


def images_of(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "DICOMDIR"]


def test_a_complete_cd_is_one_arrival(watched: WatchedInbox, disc: Path) -> None:
    shutil.copytree(disc, watched.path / "disc")
    (watched.path / "disc" / "VIEWER.EXE").write_bytes(b"MZ" * 100)
    watched.settle()
    (arrival,) = watched.arrivals()
    assert len(arrival["files"]) == 6
    note = (watched.path / "processed" / (STAMP + "disc.reason.txt")).read_text()
    assert "VIEWER.EXE" in note
    assert "DICOMDIR" not in note, "an index that is complete is no loss"


@pytest.mark.parametrize("change", [str.lower, lambda name: f"{name};1"], ids=["lower case", "with versions"])
def test_names_are_compared_as_copying_programs_write_them(watched: WatchedInbox, disc: Path, change: Callable[[str], str]) -> None:
    for path in [disc / "DICOMDIR", *images_of(disc)]:
        target = watched.path / "disc" / change(str(path.relative_to(disc)))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [6]
    assert watched.names("processed") == [STAMP + "disc"]


def test_the_inbox_waits_for_files_that_the_index_names(watched: WatchedInbox, disc: Path) -> None:
    shutil.copytree(disc, watched.path / "disc")
    last = images_of(watched.path / "disc")[-1]
    kept = last.read_bytes()
    last.unlink()
    watched.settle()
    watched.poll(PATIENCE_S - 2 * SETTLE_S)
    assert watched.arrivals() == []
    last.write_bytes(kept)
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [6]


def test_an_index_without_read_permission_delays_nothing(
    watched: WatchedInbox, disc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(disc, watched.path / "disc")
    opened = os.open

    def refuse(path: str, *more: int, **folder: int) -> int:
        if str(path).endswith("DICOMDIR"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *more, **folder)

    monkeypatch.setattr(os, "open", refuse)
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [6]
    assert "permissions are missing" in (watched.path / "processed" / (STAMP + "disc.reason.txt")).read_text()


def test_missing_files_are_reported_and_the_rest_is_ingested(watched: WatchedInbox, disc: Path) -> None:
    shutil.copytree(disc, watched.path / "disc")
    for path in images_of(watched.path / "disc")[:2]:
        path.unlink()
    watched.settle()
    watched.poll(PATIENCE_S)
    assert [len(a["files"]) for a in watched.arrivals()] == [4]
    note = (watched.path / "processed" / (STAMP + "disc.reason.txt")).read_text()
    assert "2 files that it names are missing" in note


def test_missing_files_of_a_zip_are_reported_at_once(watched: WatchedInbox, disc: Path) -> None:
    with zipfile.ZipFile(watched.path / "disc.zip", "w") as archive:
        for path in [*images_of(disc)[1:], disc / "DICOMDIR"]:
            archive.write(path, f"CD/{path.relative_to(disc)}")
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [5]
    assert "One file that it names is missing" in (watched.path / "processed" / (STAMP + "disc.zip.reason.txt")).read_text()


def test_instances_that_the_index_does_not_name_are_ingested_too(watched: WatchedInbox, disc: Path) -> None:
    shutil.copytree(disc, watched.path / "disc")
    (watched.path / "disc" / "EXTRA").write_bytes(image(9))
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals()] == [7], "nothing that arrived is lost"


def test_an_index_alone_is_rejected_with_a_remedy(watched: WatchedInbox, disc: Path) -> None:
    shutil.copy(disc / "DICOMDIR", watched.path)
    watched.settle()
    assert [r.reason for r in watched.rejected] == [INDEX_ONLY]


def test_an_instance_that_is_named_like_an_index_is_an_instance(watched: WatchedInbox) -> None:
    (watched.path / "DICOMDIR").write_bytes(image(1))
    watched.settle()
    assert [a["files"] for a in watched.arrivals()] == [[image(1)]]


def test_names_of_indexes() -> None:
    assert all(is_index(name) for name in ("DICOMDIR", "cd/dicomdir", "a/b/DICOMDIR;1", "DICOMDIR."))
    assert not any(is_index(name) for name in ("DICOMDIR.txt", "DICOMDIR/1", "dicom"))


def test_paths_are_relative_to_the_index(disc: Path) -> None:
    data = (disc / "DICOMDIR").read_bytes()
    named = referenced_files("a/b/DICOMDIR", data)
    assert named == {comparable(f"a/b/{p.relative_to(disc)}") for p in images_of(disc)}
    assert count_missing(named, [f"a/b/{p.relative_to(disc)}" for p in images_of(disc)[2:]]) == 2


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_a_damaged_index_is_no_index(noise: bytes, at: int) -> None:
    buffer = io.BytesIO()
    dcmread(io.BytesIO(image(1))).save_as(buffer)
    data = buffer.getvalue()
    assert isinstance(referenced_files("DICOMDIR", data[:at] + noise + data[at + len(noise) :]), frozenset)
    assert referenced_files("DICOMDIR", noise) == frozenset()
