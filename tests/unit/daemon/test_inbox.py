"""Inbox: when a drop is ingested, as which arrivals, and where the original is archived."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

import daemon.watch.inbox
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS
from daemon.watch.inbox import LOOSE_WAIT_S, SPOOL_BACKOFF, UNFINISHED_SETTLE_S
from daemon.watch.rejection import drop_id
from daemon.watch.scan import DEFAULT_LIMITS
from tests.support.listener import captured_logs
from tests.support.watched_inbox import NOW, SETTLE_S, STAMP, WatchedInbox, image


@pytest.fixture
def watched(tmp_path: Path) -> WatchedInbox:
    return WatchedInbox(tmp_path)


def aligned() -> bytes:
    return gzip.compress(nibabel.Nifti1Image(np.zeros(NETWORK_SHAPE, np.uint8), NETWORK_TO_RAS).to_bytes(), 1)


def test_nothing_is_ingested_before_it_has_settled(watched: WatchedInbox) -> None:
    (watched.path / "a").write_bytes(image(1))
    assert watched.poll()
    assert watched.poll(SETTLE_S - 0.1)
    assert watched.names() == ["a"]
    assert not watched.poll(0.1)
    assert (watched.names(), watched.names("processed")) == ([], [STAMP + "a"])


def test_a_folder_is_one_arrival(watched: WatchedInbox) -> None:
    (watched.path / "series" / "deep").mkdir(parents=True)
    (watched.path / "series" / "1").write_bytes(image(1))
    (watched.path / "series" / "deep" / "2.dcm").write_bytes(image(2))
    watched.settle()
    (arrival,) = watched.arrivals()
    assert arrival["files"] == sorted([image(1), image(2)])
    assert (arrival["source"], arrival["outcome"], arrival["stored"]) == ("folder", "released", 2)
    assert arrival["email"] == ["ward@hospital.example"]
    assert watched.names("processed") == [STAMP + "series"]
    assert sorted(p.name for p in (watched.path / "processed" / (STAMP + "series")).iterdir()) == ["1", "deep"]
    assert watched.rejected == []


def test_a_folder_waits_until_all_of_it_has_settled(watched: WatchedInbox) -> None:
    folder = watched.path / "series"
    folder.mkdir()
    for n in range(5):
        (folder / str(n)).write_bytes(image(n))
        watched.poll(SETTLE_S / 2)
    assert watched.arrivals() == []
    watched.poll(SETTLE_S)
    assert len(watched.arrivals()[0]["files"]) == 5


def test_loose_files_that_are_copied_one_after_another_are_grouped(watched: WatchedInbox) -> None:
    for n in range(4):
        (watched.path / f"{n}.dcm").write_bytes(image(n))
        watched.poll(SETTLE_S / 2)
    watched.poll(SETTLE_S / 2)
    assert watched.arrivals() == []
    watched.poll(SETTLE_S / 2)
    (arrival,) = watched.arrivals()
    assert len(arrival["files"]) == 4


def test_loose_files_wait_for_one_that_is_being_copied_up_to_a_limit(watched: WatchedInbox) -> None:
    (watched.path / "1.dcm").write_bytes(image(1))
    growing = watched.path / "2.dcm"
    growing.write_bytes(b"x")
    watched.poll()
    waited = 0.0
    while waited <= LOOSE_WAIT_S:
        with growing.open("ab") as stream:
            stream.write(b"x")
        watched.poll(1.0)
        waited += 1.0
        assert watched.arrivals() == []
    watched.poll(SETTLE_S - 1.0)
    with growing.open("ab") as stream:
        stream.write(b"x")
    watched.poll(1.0)
    assert watched.names() == ["2.dcm"]
    assert watched.arrivals()[0]["files"] == [image(1)]


def test_several_loose_files_at_once_are_one_arrival_and_bad_ones_are_rejected_together(watched: WatchedInbox) -> None:
    for n in range(3):
        (watched.path / f"{n}").write_bytes(image(n))
    (watched.path / "letter.txt").write_text("Dear colleague")
    (watched.path / "link").symlink_to("/etc/passwd")
    watched.settle()
    (arrival,) = watched.arrivals()
    assert len(arrival["files"]) == 3
    assert watched.names("processed") == [STAMP + n for n in "012"]
    assert [n for n in watched.names("rejected") if not n.endswith(".txt")] == [STAMP + "link"]
    assert (watched.path / "rejected" / (STAMP + "letter.txt.reason.txt")).read_text() == "The file is not DICOM.\n"
    assert [r.drop_id for r in watched.rejected] == [drop_id("letter.txt")], "one case for both"
    assert watched.rejected[0].reason.startswith("2 files could not be taken")
    assert (watched.path / "rejected" / (STAMP + "link")).readlink() == Path("/etc/passwd"), "moved as a link, not followed"


def test_a_copied_cd_is_one_rejection(watched: WatchedInbox) -> None:
    names = ["AUTORUN.INF", "README.TXT", "VIEWER.EXE"]
    for name in names:
        (watched.path / name).write_bytes(b"MZ" * 200)
    watched.settle()
    (answer,) = watched.rejected
    assert answer.reason == "3 files could not be taken. The file is not DICOM."
    assert [n for n in watched.names("rejected") if not n.endswith(".reason.txt")] == [STAMP + n for n in names]
    assert len(watched.names("rejected")) == 6, "each with its note"


def test_files_that_are_not_dicom_are_listed_beside_the_folder(watched: WatchedInbox) -> None:
    folder = watched.path / "series"
    folder.mkdir()
    (folder / "1").write_bytes(image(1))
    (folder / "notes.txt").write_text("hello")
    watched.settle()
    assert len(watched.arrivals()[0]["files"]) == 1
    note = (watched.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert "notes.txt: The file is not DICOM." in note
    assert watched.rejected == []


def test_recipients_of_a_folder(watched: WatchedInbox) -> None:
    folder = watched.path / "series"
    folder.mkdir()
    (folder / "0").write_bytes(image(1))
    (folder / "email.txt").write_text("# who\nneuro@hospital.example\n\nnot an address\nward@hospital.example\n", "utf-8-sig")
    watched.settle()
    assert watched.arrivals()[0]["email"] == ["ward@hospital.example", "neuro@hospital.example"]
    assert "1 of its lines" in (watched.path / "processed" / (STAMP + "series.reason.txt")).read_text()


def test_a_zip_is_one_arrival(watched: WatchedInbox) -> None:
    with zipfile.ZipFile(watched.path / "case.zip", "w") as archive:
        archive.writestr("a/1", image(1))
        archive.writestr("a/2", image(2))
        archive.writestr("email.txt", "neuro@hospital.example")
    watched.settle()
    (arrival,) = watched.arrivals()
    assert arrival["files"] == sorted([image(1), image(2)])
    assert "neuro@hospital.example" in arrival["email"]
    assert watched.names("processed") == [STAMP + "case.zip"]


def test_a_zip_that_is_damaged_half_way_leaves_an_aborted_arrival(watched: WatchedInbox) -> None:
    path = watched.path / "case.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("1", image(1))
        archive.writestr("2", image(2))
    data = bytearray(path.read_bytes())
    second = data.index(image(2))
    data[second + 400] ^= 0xFF
    path.write_bytes(bytes(data))
    watched.settle()
    (arrival,) = watched.arrivals()
    assert (arrival["outcome"], len(arrival["files"])) == ("interrupted", 1)
    assert watched.names("rejected") == [STAMP + "case.zip", STAMP + "case.zip.reason.txt"]


def test_an_aligned_head_is_an_arrival_of_its_own(watched: WatchedInbox) -> None:
    data = aligned()
    (watched.path / "head.nii.gz").write_bytes(data)
    (watched.path / "1.dcm").write_bytes(image(1))
    watched.settle()
    head = next(a for a in watched.arrivals() if not a["files"])
    assert (head["folder"] / "aligned.nii.gz").read_bytes() == data
    assert (head["outcome"], head["stored"]) == ("released", 1)
    assert len(watched.arrivals()) == 2


def test_a_head_on_another_grid_is_rejected(watched: WatchedInbox) -> None:
    image = nibabel.Nifti1Image(np.zeros((10, 10, 10), np.uint8), np.eye(4))
    (watched.path / "Secret Name.nii.gz").write_bytes(gzip.compress(image.to_bytes()))
    with captured_logs(daemon.watch.inbox) as logs:
        watched.settle()
    assert watched.arrivals() == []
    assert "146 x 182 x 133" in (watched.path / "rejected" / (STAMP + "Secret Name.nii.gz.reason.txt")).read_text()
    (rejected,) = watched.rejected
    assert "146 x 182 x 133" in rejected.reason
    assert (rejected.folder, rejected.rejected_at) == (watched.path, NOW)
    assert "Secret" not in repr(logs) + repr(rejected)
    assert [e["event"] for e in logs] == ["drop_rejected"]


def test_a_half_copied_drop_gets_more_time(watched: WatchedInbox) -> None:
    (watched.path / "series").mkdir()
    (watched.path / "series" / "1").write_bytes(image(1))
    (watched.path / "series" / "2.part").write_bytes(b"half")
    (watched.path / "empty").touch()
    watched.settle()
    assert watched.names() == ["empty", "series"]
    watched.poll(UNFINISHED_SETTLE_S)
    assert watched.names() == []
    assert "2.part" in (watched.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert drop_id("empty") in {r.drop_id for r in watched.rejected}


def test_the_same_drop_again_gets_another_name(watched: WatchedInbox) -> None:
    for _ in range(3):
        (watched.path / "a").write_bytes(image(1))
        watched.settle()
    assert watched.names("processed") == [STAMP + "a", STAMP + "a-2", STAMP + "a-3"]
    assert len({a["files"][0] for a in watched.arrivals()}) == 1


def huge(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(size)  # a hole: takes no room on the disk


@pytest.mark.parametrize(
    ("name", "start", "size"),
    [
        ("film.dcm", bytes(128) + b"DICM", DEFAULT_LIMITS.instance_bytes + 1),
        ("head.nii.gz", b"\x1f\x8b", DEFAULT_LIMITS.aligned_bytes + 1),
        ("disk.img", b"", 10**12),
        ("all.zip", b"PK\x03\x04", 10**12),
    ],
)
def test_a_file_that_is_too_large_is_rejected_alone(watched: WatchedInbox, name: str, start: bytes, size: int) -> None:
    huge(watched.path / name, start, size)
    (watched.path / "series").mkdir()
    (watched.path / "series" / "1").write_bytes(image(1))
    watched.free = 10**10
    watched.settle()
    assert [a["files"] for a in watched.arrivals()] == [[image(1)]]
    assert [r.drop_id for r in watched.rejected] == [drop_id(name)]
    assert watched.names() == []


def test_a_file_that_is_too_large_is_left_out_of_a_folder(watched: WatchedInbox) -> None:
    (watched.path / "series").mkdir()
    (watched.path / "series" / "1").write_bytes(image(1))
    huge(watched.path / "series" / "film.dcm", bytes(128) + b"DICM", DEFAULT_LIMITS.instance_bytes + 1)
    huge(watched.path / "series" / "email.txt", b"me@example.org", 10**9)
    watched.settle()
    assert [(a["files"], a["email"]) for a in watched.arrivals()] == [([image(1)], ["ward@hospital.example"])]
    note = (watched.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert "film.dcm: The file is too large: it has 2,048 MB" in note
    assert "email.txt: It is too long" in note


def test_a_zip_waits_for_room_for_its_unpacked_files(watched: WatchedInbox) -> None:
    with zipfile.ZipFile(watched.path / "case.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1", image(1))
        archive.writestr("2.dcm", bytes(128) + b"DICM" + bytes(20 * 1024**2))
    watched.free = int(watched.settings.listener.reserve_gib * 1024**3) + 10 * 1024**2
    watched.settle()
    assert watched.arrivals() == []
    assert watched.names() == ["case.zip"]
    watched.free += 20 * 1024**2
    watched.poll(SPOOL_BACKOFF.first_s)
    watched.settle()
    assert image(1) in watched.arrivals()[0]["files"]
    assert watched.names() == []


def test_a_file_that_is_too_large_is_left_out_of_a_zip(tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path, max_instance_mib=len(image(1)) / 1024**2)
    with zipfile.ZipFile(watched.path / "case.zip", "w") as archive:
        archive.writestr("1", image(1))
        archive.writestr("2", image(2) + bytes(1000))
    watched.settle()
    assert [a["files"] for a in watched.arrivals()] == [[image(1)]]


def test_a_long_or_odd_name_can_be_archived(watched: WatchedInbox) -> None:
    for name in ("ä" * 120 + ".dcm", os.fsdecode(b"caf\xe9"), "new\nline"):
        (watched.path / name).write_bytes(image(1))
    watched.settle()
    assert watched.names() == []
    assert len(watched.names("processed")) == 3


@pytest.mark.parametrize("loose", [True, False])
def test_the_inbox_waits_for_an_instance_whose_copy_pauses(tmp_path: Path, loose: bool) -> None:
    watched = WatchedInbox(tmp_path)
    folder = watched.path if loose else watched.path / "series"
    folder.mkdir(exist_ok=True)
    (folder / "1").write_bytes(image(1))
    whole = image(2)
    (folder / "2").write_bytes(whole[:-50])
    watched.settle()
    watched.poll(20)
    assert watched.arrivals() == [], "the copy may go on"
    assert watched.names() == (["1", "2"] if loose else ["series"])
    (folder / "2").write_bytes(whole)
    watched.settle()
    (arrival,) = watched.arrivals()
    assert arrival["files"] == sorted([image(1), whole])
    assert arrival["outcome"] == "released"


def test_an_instance_that_stays_truncated_is_ingested_in_the_end(tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path, incomplete_s=600)
    (watched.path / "series").mkdir()
    for n in range(1, 5):
        (watched.path / "series" / str(n)).write_bytes(image(n)[: -50 if n == 2 else None])
    watched.settle()
    watched.poll(590)
    assert watched.arrivals() == []
    watched.poll(11)
    (arrival,) = watched.arrivals()
    assert len(arrival["files"]) == 4, "the stage that reads it tells the operators"
    assert watched.names() == []
