"""Inbox errors: a crash, a full disk, an unreadable file, a folder that is gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import daemon.watch.inbox
from daemon.watch.inbox import MAX_ATTEMPTS, SPOOL_BACKOFF
from daemon.watch.rejection import RejectedDrop, drop_id
from daemon.watch.scan import Drop
from foundation.beneath import open_beneath
from tests.support.listener import captured_logs
from tests.support.watched_inbox import SETTLE_S, STAMP, WatchedInbox, image


@pytest.fixture
def watched(tmp_path: Path) -> WatchedInbox:
    return WatchedInbox(tmp_path)


def test_files_left_by_a_crash_are_recorded_as_the_same_rejection(
    watched: WatchedInbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt"):
        (watched.path / name).write_text("Dear colleague")
    real = os.rename

    def once(name: str, target: str, **folders: int) -> None:
        if name == "a.txt":
            raise KeyboardInterrupt
        real(name, target, **folders)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", once)
        watched.settle()
    assert watched.names() == ["a.txt"]
    again = WatchedInbox(tmp_path)
    again.settle()
    assert [r.occurrence for r in again.rejected] == [r.occurrence for r in watched.rejected]


def test_a_crash_before_the_move_ingests_the_same_bytes_again(
    watched: WatchedInbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (watched.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", interrupt)
        watched.settle()
    again = WatchedInbox(tmp_path)
    again.settle()
    first, second = again.arrivals()
    assert first["files"] == second["files"]
    assert [p.name for p in first["folder"].glob("*.dcm")] == [p.name for p in second["folder"].glob("*.dcm")]
    assert again.names() == []


def interrupt(*_args: object, **_folders: object) -> None:
    raise KeyboardInterrupt


def test_a_drop_that_cannot_be_moved_is_not_ingested_again(watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_folders: object) -> None:
        raise OSError(errno.EACCES, "permission denied")

    (watched.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, captured_logs(daemon.watch.inbox) as logs:
        patch.setattr(os, "rename", fail)
        watched.settle()
        watched.settle()
        watched.settle()
    assert len(watched.arrivals()) == 1
    assert sum(e["event"] == "drop_not_moved" for e in logs) == 1


def test_a_full_disk_leaves_the_drop_where_it_is(watched: WatchedInbox) -> None:
    (watched.path / "a").write_bytes(image(1))
    watched.free = 0
    with captured_logs(daemon.watch.inbox) as logs:
        watched.settle()
        watched.poll(SPOOL_BACKOFF.first_s)
        assert watched.names() == ["a"]
        assert watched.arrivals() == []
        watched.free = 10**12
        watched.poll(SPOOL_BACKOFF.first_s)
    assert watched.names() == []
    assert len(watched.arrivals()) == 1
    assert troubles(logs) == ["disk_nearly_full", "share_error_over"]


def troubles(logs: list[Any]) -> list[str]:
    return [e["event"] for e in logs if not e["event"].startswith("drop_")]


def test_a_spool_that_cannot_be_written_pauses(watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    (watched.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        watched.settle()
        before = len(list(watched.settings.received_dir.iterdir()))
        watched.poll(SPOOL_BACKOFF.first_s / 2)
        assert len(list(watched.settings.received_dir.iterdir())) == before, "no attempt during the pause"
    watched.poll(SPOOL_BACKOFF.first_s)
    assert watched.names() == []
    assert watched.rejected == []


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def test_a_watched_folder_that_is_gone_is_logged_once_and_used_again(watched: WatchedInbox) -> None:
    for sub in ("processed", "rejected"):
        (watched.path / sub).rmdir()
    watched.path.rmdir()
    watched.path.write_text("in the way")
    with captured_logs(daemon.watch.inbox) as logs:
        watched.poll()
        watched.poll(5)
        watched.path.unlink()
        watched.poll(5)
        (watched.path / "a").write_bytes(image(1))
        watched.settle()
    assert troubles(logs) == ["watch_folder_not_usable", "share_error_over"]
    assert len(watched.arrivals()) == 1


def test_a_rejection_that_cannot_be_recorded_is_retried(tmp_path: Path) -> None:
    calls: list[RejectedDrop] = []

    def record(drop: RejectedDrop) -> None:
        calls.append(drop)
        if len(calls) == 1:
            raise ConnectionError

    watched = WatchedInbox(tmp_path, record)
    (watched.path / "letter").write_text("Dear colleague")
    watched.settle()
    assert watched.names() == ["letter"]
    watched.poll(5)
    assert watched.names() == []
    assert len(calls) == 2
    assert calls[0].occurrence == calls[1].occurrence, "the same drop"
    (watched.path / "letter").write_text("Dear colleague")
    watched.settle()
    assert calls[2].drop_id == calls[0].drop_id
    assert calls[2].occurrence != calls[0].occurrence, "another one of that name"


def test_a_drop_that_can_never_be_read_is_rejected_in_the_end(watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_args: object, **_keywords: object) -> int:
        raise OSError(errno.EIO, "input/output error")

    (watched.path / "a").write_bytes(image(1))
    monkeypatch.setattr("daemon.watch.members.open_beneath", unreadable)
    watched.poll()
    for attempt in range(MAX_ATTEMPTS):
        assert watched.rejected == [], attempt
        watched.poll(SETTLE_S)
    assert [r.drop_id for r in watched.rejected] == [drop_id("a")]


def test_one_unreadable_file_does_not_reject_the_others(watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_is_unreadable(root: Path, parts: Sequence[str]) -> int:
        if parts[-1] == "bad":
            raise OSError(errno.EIO, "input/output error")
        return open_beneath(root, parts)

    for n in range(3):
        (watched.path / str(n)).write_bytes(image(n))
    (watched.path / "bad").write_bytes(image(9))
    monkeypatch.setattr("daemon.watch.members.open_beneath", one_is_unreadable)
    for _ in range(MAX_ATTEMPTS + 1):
        watched.poll(SETTLE_S)
    assert [r.drop_id for r in watched.rejected] == [drop_id("bad")]
    assert watched.names() == []
    assert watched.names("processed") == [STAMP + n for n in "012"]


def test_a_defect_in_corewatch_rejects_the_drop_and_polling_goes_on(watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("Secret^Name")

    (watched.path / "a").write_bytes(image(1))
    with monkeypatch.context() as patch, captured_logs(daemon.watch.inbox) as logs:
        patch.setattr("daemon.watch.ingest.read_content", broken)
        watched.settle()
    assert len(watched.rejected) == 1
    assert "Secret" not in repr(logs)
    (watched.path / "b").write_bytes(image(2))
    watched.settle()
    assert len(watched.arrivals()[-1]["files"]) == 1


def test_a_drop_that_is_moved_away_in_the_meantime_is_no_error(watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    path = watched.path / "a"
    path.write_bytes(image(1))
    real = daemon.watch.inbox.ingest

    def ingest_and_lose(group: list[Drop], *args: Any, **kwargs: Any) -> Any:
        taken = real(group, *args, **kwargs)
        path.unlink()
        return taken

    monkeypatch.setattr(daemon.watch.inbox, "ingest", ingest_and_lose)
    watched.settle()
    assert len(watched.arrivals()) == 1
    assert watched.names("processed") == []
