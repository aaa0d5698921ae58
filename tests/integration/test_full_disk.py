"""A disk that is full, or read-only: nothing is acknowledged that is not kept, nothing is broken, and with room all goes on."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

import dicom_listener.disk_guard
from corewatch.states import CaseState
from daemon.intake.assembler import Assembler
from ledger.store import Ledger
from tests.support.listener import associate, captured_logs, ct_slice, file_bytes, images, listener_settings, running
from tests.support.spool import TestClock
from tests.support.watched_inbox import WatchedInbox

OUT_OF_RESOURCES = 0xA700
SUCCESS = 0x0000
SIDE = 256
"""Of a slice: 131 KB."""
DISK_MIB = 8
BALLAST_MIB = 2


class SmallDisk:
    """A file system of a few MiB in memory, with a ballast file that can be thrown off."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.ballast = folder / "ballast"
        self.ballast.write_bytes(bytes(BALLAST_MIB << 20))

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        (self.path / "filler").unlink(missing_ok=True)
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here; the limit on the size of files is tested everywhere")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def store(association: Any, number: int, size: int = SIDE) -> int:
    return int(association.send_c_store(ct_slice(number, size=size)).Status)


def events(logs: list[Any]) -> list[str]:
    """What was logged about the disk."""
    return [entry["event"] for entry in logs if "disk" in entry["event"] or "spool" in entry["event"]]


def test_the_listener_and_the_ledger_on_a_disk_that_runs_full(disk: SmallDisk) -> None:
    settings = listener_settings(disk.path)
    clock = TestClock()
    ledger = Ledger(settings.database_url, clock)
    assembler = Assembler(ledger, settings)
    kept: set[int] = set()
    refused: set[int] = set()
    with captured_logs(dicom_listener.disk_guard) as logs, running(settings) as listener:
        association = associate(listener.port)
        for number in range(1, 80):
            (kept if store(association, number) == SUCCESS else refused).add(number)
            if number % 10 == 0 and not refused:
                assembler.step(clock.tick(0.2))
        assert 20 < len(kept) < 75
        assert events(logs) == ["disk_nearly_full"], "said once, not with every image"
        disk.fill()
        with pytest.raises(OperationalError):
            ledger.note("a line that finds no room", text="x" * 500_000)
        disk.make_room()
        assert {store(association, number) for number in refused if number <= min(refused) + 8} == {SUCCESS}
        kept |= {n for n in refused if n <= min(refused) + 8}
        assert events(logs) == ["disk_nearly_full", "disk_usable_again"]
        association.release()
    for seconds in (0.2, 21.0, 0.2):
        assembler.step(clock.tick(seconds))
    # what was acknowledged, whole, and nothing else
    stored = [path.read_bytes()[-SIDE * SIDE * 2 :] for folder in settings.received_dir.iterdir() for path in images(folder)]
    assert sorted(stored) == sorted(ct_slice(n, size=SIDE).PixelData for n in kept), (
        "what was acknowledged, whole, and nothing else"
    )
    [case] = ledger.cases.find()
    assert case.state is not CaseState.RECEIVING
    assert len(ledger.cases.instance_paths(case)) == len(kept)
    assert not list(settings.received_dir.rglob("*.partial"))
    ledger.close()


def test_the_reserve_is_kept_free(disk: SmallDisk) -> None:
    reserve = 1 << 20
    settings = listener_settings(disk.path, reserve_gib=reserve / 1024**3)
    with captured_logs(dicom_listener.disk_guard) as logs, running(settings) as listener:
        association = associate(listener.port)
        answers = [store(association, number) for number in range(1, 70)]
        association.release()
    assert set(answers) == {SUCCESS, OUT_OF_RESOURCES}
    assert answers == sorted(answers), "once it says no, it says no until there is room"
    free = os.statvfs(disk.path)
    assert free.f_bavail * free.f_frsize >= reserve
    assert events(logs) == ["disk_nearly_full"]


def test_a_read_only_disk_acknowledges_nothing(disk: SmallDisk) -> None:
    settings = listener_settings(disk.path)
    with running(settings) as listener:
        association = associate(listener.port)
        assert store(association, 1) == SUCCESS
        disk.remount("ro")
        assert {store(association, number) for number in (2, 3)} == {OUT_OF_RESOURCES}
        late = associate(listener.port)
        assert store(late, 4) == OUT_OF_RESOURCES
        disk.remount("rw")
        assert {store(association, number) for number in (2, 3)} == {SUCCESS}
        assert store(late, 4) == SUCCESS
        association.release()
        late.release()
    assert sorted(len(images(folder)) for folder in settings.received_dir.iterdir()) == [1, 3]


def test_drops_wait_for_room(disk: SmallDisk) -> None:
    watched = WatchedInbox(disk.path)
    series = watched.path / "series"
    series.mkdir()
    for number in range(1, 11):
        (series / str(number)).write_bytes(file_bytes(ct_slice(number, size=SIDE)))
    disk.fill()
    watched.settle()
    assert watched.names() == ["series"]
    assert watched.rejected == []
    disk.make_room()
    watched.poll(after=60)
    watched.settle()
    assert watched.names() == []
    taken = [a for a in watched.arrivals() if a["outcome"] == "released"]
    assert [len(a["files"]) for a in taken] == [10]


def test_a_read_only_watched_folder_loses_nothing(disk: SmallDisk) -> None:
    watched = WatchedInbox(disk.path)
    (watched.path / "one").write_bytes(file_bytes(ct_slice(1, size=SIDE)))
    watched.poll()
    disk.remount("ro")
    watched.poll(after=5)
    assert watched.names() == ["one"]
    disk.remount("rw")
    watched.poll(after=60)
    watched.settle()
    assert [len(a["files"]) for a in watched.arrivals() if a["outcome"] == "released"] == [1]
    assert watched.names() == []


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """What a quota does, without a disk of our own: writes fail in the middle of a file."""
    settings = listener_settings(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with running(settings) as listener:
        association = associate(listener.port)
        assert store(association, 1) == SUCCESS
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            large = store(association, 2, size=1024)
            small = store(association, 3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (large, small) == (OUT_OF_RESOURCES, SUCCESS)
        assert store(association, 2, size=1024) == SUCCESS
        association.release()
    [folder] = settings.received_dir.iterdir()
    assert len(images(folder)) == 3
    assert not list(folder.glob("*.partial"))
