from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

import daemon.watch.events
from corewatch.errors import ConfigurationError
from daemon.watch.events import FolderEvents, file_system
from tests.support.listener import captured_logs

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /mnt/share rw - cifs //server/share rw
31 22 0:27 / /mnt/with\\040space rw master:3 - nfs4 server:/x rw
32 30 0:28 / /mnt/share/local rw - tmpfs tmpfs rw
33 22 0:29 / /mnt/ssh rw - fuse.sshfs user@host: rw
"""


class Observer:
    """Replaces watchdog's observer; fails where the test wants."""

    emitters: frozenset[Any] = frozenset()
    ident = None

    def __init__(self, error: OSError | None = None) -> None:
        self.error = error
        self.scheduled: list[str] = []
        self.running = False

    def schedule(self, _handler: object, path: str, **_keywords: object) -> None:
        self.scheduled.append(path)

    def start(self) -> None:
        if self.error is not None:
            raise self.error
        self.running = True

    def stop(self) -> None:
        self.running = False

    def join(self) -> None:
        assert not self.running


def hints(folder: Path, polling: Any, observer: Observer) -> FolderEvents:
    def make() -> Any:
        return observer

    return FolderEvents({folder: threading.Event()}, polling, make)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home", "ext4"),
        ("/mnt/share/in", "cifs"),
        ("/mnt/share/local/in", "tmpfs"),
        ("/mnt/with space/in", "nfs4"),
        ("/mnt/sharenot", "ext4"),
        ("/mnt/ssh/x", "sshfs"),
    ],
)
def test_file_system(tmp_path: Path, folder: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert file_system(Path(folder), mounts) == kind


def test_an_unknown_system_is_no_error(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "nothing") == ""
    assert file_system(tmp_path) != ""


def test_polling_always_asks_for_no_events(tmp_path: Path) -> None:
    observer = Observer()
    watching = hints(tmp_path, "always", observer)
    watching.start()
    watching.stop()
    assert observer.scheduled == []


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "sshfs"])
def test_network_file_systems_are_polled_and_that_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(daemon.watch.events, "file_system", lambda _folder: kind)
    observer = Observer()
    with captured_logs(daemon.watch.events) as logs:
        hints(tmp_path, "auto", observer).start()
    assert observer.scheduled == []
    assert [e["event"] for e in logs] == ["watch_polling"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_without_inotify_it_polls_and_logs_how_to_raise_the_limit(tmp_path: Path, number: int) -> None:
    observer = Observer(OSError(number, "inotify watch limit reached"))
    with captured_logs(daemon.watch.events) as logs:
        watching = hints(tmp_path, "auto", observer)
        watching.start()
        watching.stop()
    (event,) = logs
    assert event["log_level"] == "warning"
    assert "fs.inotify.max_user_watches" in event["remedy"]


def test_without_any_inotify_instance_it_polls(tmp_path: Path) -> None:
    def make() -> Any:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    with captured_logs(daemon.watch.events) as logs:
        watching = FolderEvents({tmp_path: threading.Event()}, "auto", make)
        watching.start()
        watching.stop()
    assert "max_user_instances" in logs[0]["remedy"]


def test_without_inotify_never_polling_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"fs\.inotify"):
        hints(tmp_path, "never", Observer(OSError(errno.ENOSPC, "limit"))).start()


def test_a_real_observer_wakes_for_changes_but_not_for_scans(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    wake, other_wake = threading.Event(), threading.Event()
    other = tmp_path.with_name("other")
    other.mkdir()
    watching = FolderEvents({tmp_path: wake, other: other_wake}, "never")
    watching.start()
    try:
        list(tmp_path.iterdir())
        assert not wake.wait(0.3)
        (tmp_path / "x").write_bytes(b"1")
        assert wake.wait(10)
        assert not other_wake.is_set(), "the other folder's thread is not woken"
    finally:
        watching.stop()
    assert set(threading.enumerate()) <= before


def test_a_real_observer_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with captured_logs(daemon.watch.events) as logs:
        FolderEvents({tmp_path: threading.Event(), tmp_path / "missing": threading.Event()}, "auto").start()
    assert [e["event"] for e in logs] == ["watch_polling"]
    assert set(threading.enumerate()) <= before
