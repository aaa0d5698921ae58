"""A watched folder when something fails: a crash, a disk, a file, a folder that is gone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import daemon.watch.inbox
from daemon.watch.inbox import MAX_ATTEMPTS, SPOOL_BACKOFF
from daemon.watch.rejection import RejectedDrop, drop_id
from daemon.watch.scan import Drop
from tests.support.listener import captured_logs
from tests.support.ward import SETTLE_S, STAMP, Ward, image


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


def test_files_left_by_a_crash_are_recorded_as_the_same_rejection(
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


def test_a_crash_before_the_move_ingests_the_same_bytes_again(ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_drop_that_cannot_be_moved_is_not_ingested_again(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.EACCES, "permission denied")

    (ward.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, captured_logs(daemon.watch.inbox) as logs:
        patch.setattr(Path, "rename", fail)
        ward.settle()
        ward.settle()
        ward.settle()
    assert len(ward.arrivals()) == 1
    assert sum(e["event"] == "drop_not_moved" for e in logs) == 1


def test_a_full_disk_leaves_the_drop_where_it_is(ward: Ward) -> None:
    (ward.path / "a").write_bytes(image(1))
    ward.free = 0
    with captured_logs(daemon.watch.inbox) as logs:
        ward.settle()
        ward.poll(SPOOL_BACKOFF.first_s)
        assert ward.names() == ["a"]
        assert ward.arrivals() == []
        ward.free = 10**12
        ward.poll(SPOOL_BACKOFF.first_s)
    assert ward.names() == []
    assert len(ward.arrivals()) == 1
    assert troubles(logs) == ["disk_nearly_full", "share_error_over"]


def troubles(logs: list[Any]) -> list[str]:
    return [e["event"] for e in logs if not e["event"].startswith("drop_")]


def test_a_spool_that_cannot_be_written_pauses(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    (ward.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ward.settle()
        before = len(list(ward.settings.received_dir.iterdir()))
        ward.poll(SPOOL_BACKOFF.first_s / 2)
        assert len(list(ward.settings.received_dir.iterdir())) == before, "no attempt during the pause"
    ward.poll(SPOOL_BACKOFF.first_s)
    assert ward.names() == []
    assert ward.rejected == []


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def test_a_watched_folder_that_is_gone_is_logged_once_and_used_again(ward: Ward) -> None:
    for sub in ("processed", "rejected"):
        (ward.path / sub).rmdir()
    ward.path.rmdir()
    ward.path.write_text("in the way")
    with captured_logs(daemon.watch.inbox) as logs:
        ward.poll()
        ward.poll(5)
        ward.path.unlink()
        ward.poll(5)
        (ward.path / "a").write_bytes(image(1))
        ward.settle()
    assert troubles(logs) == ["watch_folder_not_usable", "share_error_over"]
    assert len(ward.arrivals()) == 1


def test_a_rejection_that_cannot_be_recorded_is_retried(tmp_path: Path) -> None:
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


def test_a_drop_that_can_never_be_read_is_rejected_in_the_end(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_args: object, **_keywords: object) -> int:
        raise OSError(errno.EIO, "input/output error")

    (ward.path / "a").write_bytes(image(1))
    monkeypatch.setattr("daemon.watch.members.os.open", unreadable)
    ward.poll()
    for attempt in range(MAX_ATTEMPTS):
        assert ward.rejected == [], attempt
        ward.poll(SETTLE_S)
    assert [r.drop_id for r in ward.rejected] == [drop_id("a")]


def test_one_unreadable_file_does_not_reject_the_others(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def one_is_unreadable(path: Any, *arguments: Any, **keywords: Any) -> int:
        if Path(path).name == "bad":
            raise OSError(errno.EIO, "input/output error")
        return real(path, *arguments, **keywords)

    for n in range(3):
        (ward.path / str(n)).write_bytes(image(n))
    (ward.path / "bad").write_bytes(image(9))
    monkeypatch.setattr("daemon.watch.members.os.open", one_is_unreadable)
    for _ in range(MAX_ATTEMPTS + 1):
        ward.poll(SETTLE_S)
    assert [r.drop_id for r in ward.rejected] == [drop_id("bad")]
    assert ward.names() == []
    assert ward.names("processed") == [STAMP + n for n in "012"]


def test_a_defect_in_corewatch_rejects_the_drop_and_polling_goes_on(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("Secret^Name")

    (ward.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, captured_logs(daemon.watch.inbox) as logs:
        patch.setattr("daemon.watch.ingest.read_content", broken)
        ward.settle()
    assert len(ward.rejected) == 1
    assert "Secret" not in repr(logs)
    (ward.path / "b").write_bytes(image(2))
    ward.settle()
    assert len(ward.arrivals()[-1]["files"]) == 1


def test_a_drop_that_is_moved_away_in_the_meantime_is_no_error(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ward.path / "a"
    path.write_bytes(image(1))
    real = daemon.watch.inbox.ingest

    def ingest_and_lose(group: list[Drop], *args: Any, **kwargs: Any) -> Any:
        taken = real(group, *args, **kwargs)
        path.unlink()
        return taken

    monkeypatch.setattr(daemon.watch.inbox, "ingest", ingest_and_lose)
    ward.settle()
    assert len(ward.arrivals()) == 1
    assert ward.names("processed") == []
