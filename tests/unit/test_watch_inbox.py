from __future__ import annotations

import errno
import gzip
import json
import os
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import daemon.watch_inbox
import daemon.watch_trouble
from config.settings import ListenerSettings, Settings, WatchedFolder, WatchSettings
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS
from daemon.watch_content import LARGEST_ALIGNED_BYTES, LARGEST_INSTANCE_BYTES
from daemon.watch_inbox import LOOSE_PATIENCE_S, MOST_ATTEMPTS, RETRY_S, UNFINISHED_SETTLE_S, Inbox, RejectedDrop, drop_id
from daemon.watch_scan import Drop
from tests.support.listener import captured_logs, ct_slice, file_bytes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTLE_S = 2.0
STAMP = "20260102T030405Z-"


class Ward:
    """A watched folder with its spool, and a clock that the test moves."""

    def __init__(self, folder: Path, on_rejected: Callable[[RejectedDrop], None] | None = None, free: int = 10**12) -> None:
        self.path = folder / "inbox"
        self.free = free
        self.rejected: list[RejectedDrop] = []
        self.now = 1000.0
        watched = WatchedFolder(path=self.path, email=("ward@hospital.example",))
        self.settings = Settings(
            data_dir=folder / "data",
            watch=WatchSettings(folders=(watched,), settle_s=SETTLE_S),
            listener=ListenerSettings(reserve_gib=0),
        )
        self.inbox = Inbox(watched, self.settings, on_rejected or self.rejected.append, lambda: NOW, lambda _path: self.free)
        self.inbox.prepare()

    def poll(self, after: float = 0.0) -> bool:
        self.now += after
        return self.inbox.poll(self.now)

    def settle(self) -> None:
        self.poll()
        self.poll(SETTLE_S)

    def names(self, where: str = "") -> list[str]:
        return sorted(p.name for p in (self.path / where).iterdir() if p.name not in ("processed", "rejected"))

    def arrivals(self) -> list[dict[str, Any]]:
        found = []
        for folder in sorted(self.settings.received_dir.iterdir()):
            record = json.loads((folder / "arrival.json").read_bytes())
            closed = folder / "closed.json"
            record |= json.loads(closed.read_bytes()) if closed.exists() else {"outcome": None}
            found.append(record | {"files": sorted(p.read_bytes() for p in folder.glob("*.dcm")), "folder": folder})
        return found


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


def image(number: int) -> bytes:
    return file_bytes(ct_slice(number))


def aligned() -> bytes:
    return gzip.compress(nibabel.Nifti1Image(np.zeros(NETWORK_SHAPE, np.uint8), NETWORK_TO_RAS).to_bytes(), 1)


def test_nothing_is_taken_before_it_has_settled(ward: Ward) -> None:
    (ward.path / "a").write_bytes(image(1))
    assert ward.poll()
    assert ward.poll(SETTLE_S - 0.1)
    assert ward.names() == ["a"]
    assert not ward.poll(0.1)
    assert (ward.names(), ward.names("processed")) == ([], [STAMP + "a"])


def test_a_folder_is_one_arrival(ward: Ward) -> None:
    (ward.path / "series" / "deep").mkdir(parents=True)
    (ward.path / "series" / "1").write_bytes(image(1))
    (ward.path / "series" / "deep" / "2.dcm").write_bytes(image(2))
    ward.settle()
    (arrival,) = ward.arrivals()
    assert arrival["files"] == sorted([image(1), image(2)])
    assert (arrival["source"], arrival["outcome"], arrival["stored"]) == ("folder", "released", 2)
    assert arrival["email"] == ["ward@hospital.example"]
    assert ward.names("processed") == [STAMP + "series"]
    assert sorted(p.name for p in (ward.path / "processed" / (STAMP + "series")).iterdir()) == ["1", "deep"]
    assert ward.rejected == []


def test_a_folder_waits_until_all_of_it_has_settled(ward: Ward) -> None:
    folder = ward.path / "series"
    folder.mkdir()
    for n in range(5):
        (folder / str(n)).write_bytes(image(n))
        ward.poll(SETTLE_S / 2)
    assert ward.arrivals() == []
    ward.poll(SETTLE_S)
    assert len(ward.arrivals()[0]["files"]) == 5


def test_loose_files_that_come_one_after_another_are_grouped(ward: Ward) -> None:
    for n in range(4):
        (ward.path / f"{n}.dcm").write_bytes(image(n))
        ward.poll(SETTLE_S / 2)
    ward.poll(SETTLE_S / 2)
    assert ward.arrivals() == []
    ward.poll(SETTLE_S / 2)
    (arrival,) = ward.arrivals()
    assert len(arrival["files"]) == 4


def test_loose_files_wait_for_one_that_is_still_coming_but_not_for_ever(ward: Ward) -> None:
    (ward.path / "1.dcm").write_bytes(image(1))
    growing = ward.path / "2.dcm"
    growing.write_bytes(b"x")
    ward.poll()
    waited = 0.0
    while waited <= LOOSE_PATIENCE_S:
        with growing.open("ab") as stream:
            stream.write(b"x")
        ward.poll(1.0)
        waited += 1.0
        assert ward.arrivals() == []
    ward.poll(SETTLE_S - 1.0)
    with growing.open("ab") as stream:
        stream.write(b"x")
    ward.poll(1.0)
    assert ward.names() == ["2.dcm"]
    assert ward.arrivals()[0]["files"] == [image(1)]


def test_several_loose_files_at_once_are_one_arrival_and_bad_ones_are_rejected_together(ward: Ward) -> None:
    for n in range(3):
        (ward.path / f"{n}").write_bytes(image(n))
    (ward.path / "letter.txt").write_text("Dear colleague")
    (ward.path / "link").symlink_to("/etc/passwd")
    ward.settle()
    (arrival,) = ward.arrivals()
    assert len(arrival["files"]) == 3
    assert ward.names("processed") == [STAMP + n for n in "012"]
    assert [n for n in ward.names("rejected") if not n.endswith(".txt")] == [STAMP + "link"]
    assert (ward.path / "rejected" / (STAMP + "letter.txt.reason.txt")).read_text() == "The file is not DICOM.\n"
    assert [r.drop_id for r in ward.rejected] == [drop_id("letter.txt")], "one case for both"
    assert ward.rejected[0].reason.startswith("2 files could not be taken")
    assert (ward.path / "rejected" / (STAMP + "link")).readlink() == Path("/etc/passwd"), "moved as a link, not followed"


def test_a_copied_cd_is_answered_once(ward: Ward) -> None:
    names = ["AUTORUN.INF", "README.TXT", "VIEWER.EXE"]
    for name in names:
        (ward.path / name).write_bytes(b"MZ" * 200)
    ward.settle()
    (answer,) = ward.rejected
    assert answer.reason == "3 files could not be taken. The file is not DICOM."
    assert [n for n in ward.names("rejected") if not n.endswith(".reason.txt")] == [STAMP + n for n in names]
    assert len(ward.names("rejected")) == 6, "each with its note"


def test_what_a_crash_left_of_files_that_were_rejected_together_is_reported_as_the_same(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt"):
        (ward.path / name).write_text("Dear colleague")
    real = Path.rename

    def once(path: Path, target: Path) -> Path:
        if path.name == "a.txt":
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", once)
        ward.settle()
    assert ward.names() == ["a.txt"]
    again = Ward(tmp_path)
    again.settle()
    assert [r.occurrence for r in again.rejected] == [r.occurrence for r in ward.rejected]


def test_files_that_are_not_dicom_are_listed_beside_the_folder(ward: Ward) -> None:
    folder = ward.path / "series"
    folder.mkdir()
    (folder / "1").write_bytes(image(1))
    (folder / "notes.txt").write_text("hello")
    ward.settle()
    assert len(ward.arrivals()[0]["files"]) == 1
    note = (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert "notes.txt: The file is not DICOM." in note
    assert ward.rejected == []


def test_recipients_of_a_folder(ward: Ward) -> None:
    folder = ward.path / "series"
    folder.mkdir()
    (folder / "0").write_bytes(image(1))
    (folder / "email.txt").write_text("# who\nneuro@hospital.example\n\nnot an address\nward@hospital.example\n", "utf-8-sig")
    ward.settle()
    assert ward.arrivals()[0]["email"] == ["ward@hospital.example", "neuro@hospital.example"]
    assert "1 of its lines" in (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()


def test_a_zip_is_one_arrival(ward: Ward) -> None:
    with zipfile.ZipFile(ward.path / "case.zip", "w") as archive:
        archive.writestr("a/1", image(1))
        archive.writestr("a/2", image(2))
        archive.writestr("email.txt", "neuro@hospital.example")
    ward.settle()
    (arrival,) = ward.arrivals()
    assert arrival["files"] == sorted([image(1), image(2)])
    assert "neuro@hospital.example" in arrival["email"]
    assert ward.names("processed") == [STAMP + "case.zip"]


def test_a_zip_that_turns_out_damaged_half_way_leaves_an_aborted_arrival(ward: Ward) -> None:
    path = ward.path / "case.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("1", image(1))
        archive.writestr("2", image(2))
    data = bytearray(path.read_bytes())
    second = data.index(image(2))
    data[second + 400] ^= 0xFF
    path.write_bytes(bytes(data))
    ward.settle()
    (arrival,) = ward.arrivals()
    assert (arrival["outcome"], len(arrival["files"])) == ("aborted", 1)
    assert ward.names("rejected") == [STAMP + "case.zip", STAMP + "case.zip.reason.txt"]


def test_an_aligned_head_is_an_arrival_of_its_own(ward: Ward) -> None:
    data = aligned()
    (ward.path / "head.nii.gz").write_bytes(data)
    (ward.path / "1.dcm").write_bytes(image(1))
    ward.settle()
    head = next(a for a in ward.arrivals() if not a["files"])
    assert (head["folder"] / "aligned.nii.gz").read_bytes() == data
    assert (head["outcome"], head["stored"]) == ("released", 1)
    assert len(ward.arrivals()) == 2


def test_a_head_on_another_grid_is_rejected_visibly(ward: Ward) -> None:
    image = nibabel.Nifti1Image(np.zeros((10, 10, 10), np.uint8), np.eye(4))
    (ward.path / "Secret Name.nii.gz").write_bytes(gzip.compress(image.to_bytes()))
    with captured_logs(daemon.watch_inbox) as logs:
        ward.settle()
    assert ward.arrivals() == []
    assert "146 x 182 x 133" in (ward.path / "rejected" / (STAMP + "Secret Name.nii.gz.reason.txt")).read_text()
    (rejected,) = ward.rejected
    assert "146 x 182 x 133" in rejected.reason
    assert (rejected.folder, rejected.rejected_at) == (ward.path, NOW)
    assert "Secret" not in repr(logs) + repr(rejected)
    assert [e["event"] for e in logs] == ["drop_rejected"]


def test_a_half_copied_drop_gets_more_time(ward: Ward) -> None:
    (ward.path / "series").mkdir()
    (ward.path / "series" / "1").write_bytes(image(1))
    (ward.path / "series" / "2.part").write_bytes(b"half")
    (ward.path / "empty").touch()
    ward.settle()
    assert ward.names() == ["empty", "series"]
    ward.poll(UNFINISHED_SETTLE_S)
    assert ward.names() == []
    assert "2.part" in (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert drop_id("empty") in {r.drop_id for r in ward.rejected}


def test_the_same_drop_again_gets_another_name(ward: Ward) -> None:
    for _ in range(3):
        (ward.path / "a").write_bytes(image(1))
        ward.settle()
    assert ward.names("processed") == [STAMP + "a", STAMP + "a-2", STAMP + "a-3"]
    assert len({a["files"][0] for a in ward.arrivals()}) == 1


def test_a_crash_before_the_move_means_the_same_bytes_again(ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ward.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupt)
        ward.settle()
    again = Ward(tmp_path)
    again.settle()
    first, second = again.arrivals()
    assert first["files"] == second["files"]
    assert [p.name for p in first["folder"].glob("*.dcm")] == [p.name for p in second["folder"].glob("*.dcm")]
    assert again.names() == []


def interrupt(*_args: object) -> None:
    raise KeyboardInterrupt


def test_a_drop_that_cannot_be_moved_is_not_taken_again(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.EACCES, "permission denied")

    (ward.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, captured_logs(daemon.watch_inbox) as logs:
        patch.setattr(Path, "rename", fail)
        ward.settle()
        ward.settle()
        ward.settle()
    assert len(ward.arrivals()) == 1
    assert sum(e["event"] == "drop_not_moved" for e in logs) == 1


def test_a_full_disk_leaves_the_drop_where_it_is(ward: Ward) -> None:
    (ward.path / "a").write_bytes(image(1))
    ward.free = 0
    with captured_logs(daemon.watch_trouble) as logs:
        ward.settle()
        ward.poll(RETRY_S)
        assert ward.names() == ["a"]
        assert ward.arrivals() == []
        ward.free = 10**12
        ward.poll(RETRY_S)
    assert ward.names() == []
    assert len(ward.arrivals()) == 1
    assert troubles(logs) == ["disk_nearly_full", "watch_trouble_over"]


def huge(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(size)  # a hole: takes no room on the disk


@pytest.mark.parametrize(
    ("name", "start", "size"),
    [
        ("film.dcm", bytes(128) + b"DICM", LARGEST_INSTANCE_BYTES + 1),
        ("head.nii.gz", b"\x1f\x8b", LARGEST_ALIGNED_BYTES + 1),
        ("disk.img", b"", 10**12),
        ("all.zip", b"PK\x03\x04", 10**12),
    ],
)
def test_a_file_that_is_too_large_is_refused_and_stops_no_other(ward: Ward, name: str, start: bytes, size: int) -> None:
    huge(ward.path / name, start, size)
    (ward.path / "series").mkdir()
    (ward.path / "series" / "1").write_bytes(image(1))
    ward.free = 10**10
    ward.settle()
    assert [a["files"] for a in ward.arrivals()] == [[image(1)]]
    assert [r.drop_id for r in ward.rejected] == [drop_id(name)]
    assert ward.names() == []


def test_a_file_that_is_too_large_is_left_out_of_a_folder(ward: Ward) -> None:
    (ward.path / "series").mkdir()
    (ward.path / "series" / "1").write_bytes(image(1))
    huge(ward.path / "series" / "film.dcm", bytes(128) + b"DICM", LARGEST_INSTANCE_BYTES + 1)
    huge(ward.path / "series" / "email.txt", b"me@example.org", 10**9)
    ward.settle()
    assert [(a["files"], a["email"]) for a in ward.arrivals()] == [([image(1)], ["ward@hospital.example"])]
    note = (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert "film.dcm: The file is too large: it has 2,048 MB" in note
    assert "email.txt: It is too long" in note


def test_a_file_that_is_too_large_is_left_out_of_a_zip(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.watch_content.LARGEST_INSTANCE_BYTES", len(image(1)))
    with zipfile.ZipFile(ward.path / "case.zip", "w") as archive:
        archive.writestr("1", image(1))
        archive.writestr("2", image(2) + bytes(1000))
    ward.settle()
    assert [a["files"] for a in ward.arrivals()] == [[image(1)]]


def troubles(logs: list[Any]) -> list[str]:
    return [e["event"] for e in logs if not e["event"].startswith("drop_")]


def test_a_spool_that_cannot_be_written_pauses(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    (ward.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ward.settle()
        before = len(list(ward.settings.received_dir.iterdir()))
        ward.poll(RETRY_S / 2)
        assert len(list(ward.settings.received_dir.iterdir())) == before, "no attempt during the pause"
    ward.poll(RETRY_S)
    assert ward.names() == []
    assert ward.rejected == []


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def test_a_watched_folder_that_is_gone_is_said_once_and_used_again(ward: Ward) -> None:
    for sub in ("processed", "rejected"):
        (ward.path / sub).rmdir()
    ward.path.rmdir()
    ward.path.write_text("in the way")
    with captured_logs(daemon.watch_trouble) as logs:
        ward.poll()
        ward.poll(5)
        ward.path.unlink()
        ward.poll(5)
        (ward.path / "a").write_bytes(image(1))
        ward.settle()
    assert troubles(logs) == ["watch_folder_not_usable", "watch_trouble_over"]
    assert len(ward.arrivals()) == 1


def test_a_rejection_that_cannot_be_recorded_is_tried_again(tmp_path: Path) -> None:
    calls: list[RejectedDrop] = []

    def record(drop: RejectedDrop) -> None:
        calls.append(drop)
        if len(calls) == 1:
            raise ConnectionError

    ward = Ward(tmp_path, record)
    (ward.path / "letter").write_text("Dear colleague")
    ward.settle()
    assert ward.names() == ["letter"]
    ward.poll(5)
    assert ward.names() == []
    assert len(calls) == 2
    assert calls[0].occurrence == calls[1].occurrence, "the same drop"
    (ward.path / "letter").write_text("Dear colleague")
    ward.settle()
    assert calls[2].drop_id == calls[0].drop_id
    assert calls[2].occurrence != calls[0].occurrence, "another one of that name"


def test_a_drop_that_never_can_be_read_is_rejected_in_the_end(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_args: object, **_keywords: object) -> int:
        raise OSError(errno.EIO, "input/output error")

    (ward.path / "a").write_bytes(image(1))
    monkeypatch.setattr("daemon.watch_members.os.open", unreadable)
    ward.poll()
    for attempt in range(MOST_ATTEMPTS):
        assert ward.rejected == [], attempt
        ward.poll(SETTLE_S)
    assert [r.drop_id for r in ward.rejected] == [drop_id("a")]


def test_others_do_not_suffer_for_one_that_cannot_be_read(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def one_is_unreadable(path: Any, *arguments: Any, **keywords: Any) -> int:
        if Path(path).name == "bad":
            raise OSError(errno.EIO, "input/output error")
        return real(path, *arguments, **keywords)

    for n in range(3):
        (ward.path / str(n)).write_bytes(image(n))
    (ward.path / "bad").write_bytes(image(9))
    monkeypatch.setattr("daemon.watch_members.os.open", one_is_unreadable)
    for _ in range(MOST_ATTEMPTS + 1):
        ward.poll(SETTLE_S)
    assert [r.drop_id for r in ward.rejected] == [drop_id("bad")]
    assert ward.names() == []
    assert ward.names("processed") == [STAMP + n for n in "012"]


def test_a_defect_of_ours_rejects_the_drop_and_goes_on(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("Secret^Name")

    (ward.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, captured_logs(daemon.watch_inbox) as logs:
        patch.setattr("daemon.drops.read_content", broken)
        ward.settle()
    assert len(ward.rejected) == 1
    assert "Secret" not in repr(logs)
    (ward.path / "b").write_bytes(image(2))
    ward.settle()
    assert len(ward.arrivals()[-1]["files"]) == 1


def test_a_long_or_odd_name_can_be_put_away(ward: Ward) -> None:
    for name in ("ä" * 120 + ".dcm", os.fsdecode(b"caf\xe9"), "new\nline"):
        (ward.path / name).write_bytes(image(1))
    ward.settle()
    assert ward.names() == []
    assert len(ward.names("processed")) == 3


def test_a_drop_that_is_taken_away_meanwhile_is_no_trouble(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ward.path / "a"
    path.write_bytes(image(1))
    real = daemon.watch_inbox.take

    def take_and_lose(group: list[Drop], open_arrival: Any) -> Any:
        taken = real(group, open_arrival)
        path.unlink()
        return taken

    monkeypatch.setattr(daemon.watch_inbox, "take", take_and_lose)
    ward.settle()
    assert len(ward.arrivals()) == 1
    assert ward.names("processed") == []
