"""The watch folder with its thread, real files and the real clock."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Literal

import pytest

import daemon.watch.folder
from config.intake import ListenerSettings, WatchedFolder, WatchSettings
from config.settings import Settings
from daemon.watch.folder import WatchFolders
from daemon.watch.rejection import RejectedDrop
from daemon.watch.scan import Drop, DropLimits, scan
from tests.support.listener import arrivals, captured_logs, closing, ct_slice, file_bytes, images
from tests.support.net import wait_for


def make(folder: Path, polling: Literal["auto", "always", "never"], rescan_s: float) -> Settings:
    folders = tuple(WatchedFolder(path=folder / name) for name in ("one", "two"))
    watch = WatchSettings(folders=folders, polling=polling, settle_s=0.2, rescan_s=rescan_s)
    return Settings(data_dir=folder / "data", watch=watch, listener=ListenerSettings(reserve_gib=0))


def stop(watch: WatchFolders, timeout_s: float = 30.0) -> None:
    watch.request_stop()
    watch.join(timeout_s)


@pytest.mark.parametrize(("polling", "rescan_s"), [("always", 0.1), ("never", 600.0), ("auto", 0.5)])
def test_drops_become_arrivals(tmp_path: Path, polling: Literal["auto", "always", "never"], rescan_s: float) -> None:
    settings = make(tmp_path, polling, rescan_s)
    rejected: list[RejectedDrop] = []
    before = set(threading.enumerate())
    watch = WatchFolders(settings, rejected.append)
    watch.start()
    try:
        source = tmp_path / "source"
        source.mkdir()
        for n in range(5):
            (source / str(n)).write_bytes(file_bytes(ct_slice(n)))
        shutil.copytree(source, tmp_path / "one" / "series")
        (tmp_path / "two" / "letter.txt").write_text("Dear colleague")
        wait_for("the rejection", lambda: rejected, seconds=20)
        (folder,) = wait_for("the arrival", lambda: arrivals(settings), seconds=20)
        assert closing(folder)["outcome"] == "released"
        assert len(images(folder)) == 5
        wait_for("the move", lambda: not (tmp_path / "one" / "series").exists())
        assert len(list((tmp_path / "one" / "processed").iterdir())) == 1
        wait_for("the note", lambda: len(list((tmp_path / "two" / "rejected").iterdir())) == 2)
    finally:
        stop(watch)
    assert set(threading.enumerate()) <= before, "no thread is left"


def test_a_folder_that_is_filled_after_it_was_seen_empty_is_scanned_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(tmp_path, "never", 600.0)
    series = tmp_path / "one" / "series"
    looks: list[bool] = []

    def look(folder: Path, limits: DropLimits) -> list[Drop]:
        if folder.name == "one":
            looks.append(series.exists())
        return scan(folder, limits)

    monkeypatch.setattr("daemon.watch.inbox.scan", look)
    watch = WatchFolders(settings, lambda _drop: None)
    watch.start()
    try:
        series.mkdir()
        wait_for("two looks at it while it is empty", lambda: sum(looks) >= 2, seconds=20)
        (series / "x").write_bytes(file_bytes(ct_slice(1)))
        wait_for("the arrival", lambda: settings.received_dir.exists() and arrivals(settings), seconds=20)
    finally:
        stop(watch)


def test_a_folder_that_hangs_delays_no_other_and_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(tmp_path, "always", 0.1)
    inside, answers = threading.Event(), threading.Event()

    def hangs(folder: Path, limits: DropLimits) -> list[Drop]:
        if folder.name == "one":
            inside.set()
            assert answers.wait(60)
        return scan(folder, limits)

    monkeypatch.setattr("daemon.watch.inbox.scan", hangs)
    before = set(threading.enumerate())
    watch = WatchFolders(settings, lambda _drop: None)
    watch.start()
    try:
        assert inside.wait(20)
        (tmp_path / "two" / "x").write_bytes(file_bytes(ct_slice(1)))
        wait_for("the arrival", lambda: settings.received_dir.exists() and arrivals(settings), seconds=20)
        assert watch.is_working(0.0)
    finally:
        with captured_logs(daemon.watch.folder) as logs:
            stop(watch, timeout_s=1.0)
        answers.set()
    assert [line["folder"] for line in logs if line["log_level"] == "error"] == [str(tmp_path / "one")]
    wait_for("the end of its thread", lambda: set(threading.enumerate()) <= before, seconds=20)
    assert not watch.is_working(0.0)


def test_files_dropped_before_the_start_are_ingested(tmp_path: Path) -> None:
    settings = make(tmp_path, "never", 600.0)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x").write_bytes(file_bytes(ct_slice(1)))
    watch = WatchFolders(settings, lambda _drop: None)
    watch.start()
    try:
        wait_for("the arrival", lambda: settings.received_dir.exists() and arrivals(settings), seconds=20)
        wait_for("the move", lambda: not (tmp_path / "one" / "x").exists())
    finally:
        stop(watch)
