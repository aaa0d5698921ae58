"""Malicious files: dropped, they are ingested or rejected with a reason, and nothing else happens."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daemon.watch.inbox
import daemon.watch.scan
from corewatch.states import ENDS, CaseState
from daemon.intake.assembler import Assembler
from daemon.watch.archive import note_text, printable
from daemon.watch.content import LeftOut
from daemon.watch.dicomdir import referenced_files
from ledger.store import Ledger
from tests.support.hostile import CORPUS, deflated_bomb, header, meta
from tests.support.listener import captured_logs
from tests.support.spool import TestClock
from tests.support.watched_inbox import WatchedInbox, image

MIB = 1 << 20
PATIENCE_S = 600.0


def tree(folder: Path) -> set[str]:
    """Everything below `folder`."""
    return {str(Path(root) / name) for root, folders, files in os.walk(folder) for name in folders + files}


@contextmanager
def nothing_outside(watched: WatchedInbox, around: Path) -> Iterator[None]:
    """No file appears outside the watched folder and the data folder, and no failure is logged."""
    before = tree(around)
    with captured_logs(daemon.watch.inbox) as logs:
        yield
    inside = (str(watched.path), str(watched.settings.data_dir))
    assert {p for p in tree(around) - before if not p.startswith(inside)} == set()
    assert not [entry for entry in logs if entry["event"] in {"drop_failed", "watch_failed"}]


def settle_for_long(watched: WatchedInbox) -> None:
    watched.settle()
    watched.poll(60)
    watched.poll(PATIENCE_S)


def every_case_ends(watched: WatchedInbox) -> None:
    """What was taken is brought into the ledger as the daemon does it, and ends."""
    clock = TestClock()
    ledger = Ledger(watched.settings.database_url, clock)
    try:
        assembler = Assembler(ledger, watched.settings)
        for seconds in (0.2, 21.0, 0.2):
            assembler.step(clock.tick(seconds))
        assert all(c.state in ENDS | {CaseState.QUEUED} for c in ledger.cases.find())
        assert set(ledger.intake.finished_arrivals()) == {p.name for p in watched.settings.received_dir.iterdir()}
    finally:
        ledger.close()


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_the_corpus(name: str, tmp_path: Path) -> None:
    around = tmp_path / "around"
    watched = WatchedInbox(around)
    (watched.path / name).write_bytes(CORPUS[name]())
    (watched.path / "good.dcm").write_bytes(image(7))
    with nothing_outside(watched, tmp_path):
        settle_for_long(watched)
        assert watched.names() == [], "it is dealt with"
        assert len([p for where in ("processed", "rejected") for p in watched.names(where) if not p.endswith(".reason.txt")]) == 2
        assert image(7) in [f for a in watched.arrivals() for f in a["files"]], "others do not suffer"
        every_case_ends(watched)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400), st.sampled_from([meta() + header(), image(1)]))
def test_damaged_bytes(noise: bytes, at: int, good: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        watched = WatchedInbox(Path(folder) / "around")
        (watched.path / "a.dcm").write_bytes(good[:at] + noise + good[at + len(noise) :])
        with nothing_outside(watched, Path(folder)):
            settle_for_long(watched)
            assert watched.names() == []
            every_case_ends(watched)


@pytest.mark.parametrize("marked", ["plainly", "late", "without a preamble"])
def test_a_deflated_bomb_takes_little_memory(marked: str, tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path)
    data = deflated_bomb(128, marked)
    assert len(data) < MIB
    (watched.path / "bomb.dcm").write_bytes(data)
    tracemalloc.start()
    try:
        watched.settle()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB
    assert watched.arrivals()[0]["files"] == [data if marked != "without a preamble" else bytes(128) + b"DICM" + data], (
        "by its bytes it is an instance; the reader has its own limits"
    )


def test_a_deflated_index_is_not_inflated() -> None:
    data = deflated_bomb(128)
    tracemalloc.start()
    try:
        assert referenced_files("DICOMDIR", data) == frozenset()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


@pytest.mark.parametrize(
    ("name", "start"),
    [("film.dcm", bytes(128) + b"DICM"), ("all.zip", b"PK\x03\x04"), ("disk.img", b""), ("head.nii.gz", b"\x1f\x8b")],
)
@pytest.mark.parametrize("nested", [False, True])
def test_twenty_gigabytes(name: str, start: bytes, nested: bool, tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path)
    folder = watched.path / "drop" if nested else watched.path
    folder.mkdir(exist_ok=True)
    with (folder / name).open("wb") as file:
        file.write(start)
        file.truncate(20 << 30)
    if nested:
        (folder / "good").write_bytes(image(1))
    watched.free = 30 << 30
    tracemalloc.start()
    try:
        watched.settle()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB
    assert watched.names() == []
    assert [len(a["files"]) for a in watched.arrivals()] == [1] * nested


def odd(folder: Path) -> dict[str, Callable[[Path], object]]:
    """Things that are no files, by name."""

    def device(path: Path) -> None:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero never ends
        except PermissionError:
            os.mkfifo(path)

    def listening(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    secret = folder / "secret"
    secret.mkdir(exist_ok=True)
    (secret / "other.dcm").write_bytes(image(99))
    return {
        "fifo": os.mkfifo,
        "device": device,
        "socket": listening,
        "link to a file": lambda p: p.symlink_to(secret / "other.dcm"),
        "link to a folder": lambda p: p.symlink_to(secret),
        "link to nothing": lambda p: p.symlink_to(secret / "gone"),
        "link to itself": lambda p: p.symlink_to(p.name),
        "link to above": lambda p: p.symlink_to(".."),
    }


@pytest.mark.parametrize(
    "kind", ["fifo", "device", "socket", *(f"link to {w}" for w in ("a file", "a folder", "nothing", "itself", "above"))]
)
@pytest.mark.parametrize("loose", [True, False])
def test_special_files_are_never_read(kind: str, loose: bool, tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path)
    folder = watched.path if loose else watched.path / "drop"
    folder.mkdir(exist_ok=True)
    odd(tmp_path)[kind](folder / "odd")
    (folder / "good").write_bytes(image(1))
    watched.settle()
    assert [a["files"] for a in watched.arrivals()] == [[image(1)]]
    assert watched.names() == []
    assert (tmp_path / "secret" / "other.dcm").read_bytes() == image(99)


def test_folders_within_folders_without_end(tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path)
    (watched.path / "good").write_bytes(image(1))
    top = os.open(watched.path, os.O_RDONLY)
    for level in range(1500):
        os.mkdir("d" if level else "deep", dir_fd=top)
        below = os.open("d" if level else "deep", os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = below
    descriptor = os.open("1.dcm", os.O_CREAT | os.O_WRONLY, dir_fd=top)
    os.write(descriptor, image(2))
    os.close(descriptor)
    os.close(top)
    watched.settle()
    assert [a["files"] for a in watched.arrivals()] == [[image(1)]]
    note = (watched.path / "rejected").glob("*deep.reason.txt")
    assert "folder within too many folders" in next(note).read_text()
    _remove(watched.path / "rejected")


def _remove(folder: Path) -> None:
    """Remove the deep folder: pytest's own way of removing fails on it."""
    (deep,) = (p for p in folder.iterdir() if p.is_dir())
    while (below := deep / "d").exists():
        inner = folder / "inner"
        below.rename(inner)
        deep.rmdir()
        inner.rename(deep)


def test_more_files_than_are_allowed(tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path, max_files=50)
    (watched.path / "many").mkdir()
    for number in range(51):
        (watched.path / "many" / f"{number}").write_bytes(image(number))
    watched.settle()
    assert [r.reason for r in watched.rejected] == ["It holds more than 50 files, the limit of the settings (watch.max_files)."]
    assert watched.arrivals() == []


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9\xff.dcm",
        b"new\nline",
        b"tab\t\x1b[31mred",
        "\u202egnp.dcm".encode(),
        b" ",
        b"-rf",
        "Müller^Hans".encode(),
        b"%s%n",
    ],
)
@pytest.mark.parametrize("nested", [True, False])
def test_names_in_any_encoding(name: bytes, nested: bool, tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path)
    folder = watched.path / os.fsdecode(name) if nested else watched.path
    folder.mkdir(exist_ok=True)
    (folder / os.fsdecode(name)).write_bytes(b"not an image")
    (folder / "good").write_bytes(image(1))
    with captured_logs(daemon.watch.inbox) as logs:
        watched.settle()
    assert [a["files"] for a in watched.arrivals()] == [[image(1)]]
    assert watched.names() == []
    logged = repr(logs) + repr(watched.rejected)
    assert name.decode("utf-8", "replace").strip() == "" or os.fsdecode(name) not in logged, "a name may be a patient's"


@given(st.text(st.characters(), max_size=60))
def test_a_file_name_cannot_add_lines_to_a_note(name: str) -> None:
    note = note_text("Reason.", [LeftOut(name, "why")])
    assert note.count("\n") == 2
    assert "\x1b" not in note
    assert printable("Müller 1.dcm") == "Müller 1.dcm"


def test_a_thousand_loose_files_at_once(tmp_path: Path) -> None:
    watched = WatchedInbox(tmp_path)
    for number in range(1, 1001):
        (watched.path / f"{number}").write_bytes(meta(uid=f"1.2.3.{number}") + header(f"1.2.3.{number}"))
    watched.settle()
    (arrival,) = watched.arrivals()
    assert (len(arrival["files"]), arrival["outcome"]) == (1000, "released")
    assert len(watched.names("processed")) == 1000


# what is replaced between the look and the act --------------------------------------------------------------------------------


def outside(folder: Path) -> Path:
    """A folder that nobody who drops files may reach."""
    secret = folder / "secret"
    secret.mkdir()
    (secret / "other.dcm").write_bytes(image(99))
    return secret


@pytest.mark.parametrize("where", ["processed", "rejected"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_an_archive_that_was_replaced_gets_nothing(where: str, kind: str, tmp_path: Path) -> None:
    watched, secret = WatchedInbox(tmp_path), outside(tmp_path)
    (watched.path / where).rmdir()
    if kind == "file":
        (watched.path / where).write_bytes(b"")
    else:
        (watched.path / where).symlink_to(secret if kind == "link" else tmp_path / "made")
    (watched.path / "drop").write_bytes(image(1) if where == "processed" else b"no image")
    with captured_logs(daemon.watch.inbox) as logs:
        watched.settle()
        watched.inbox.prepare()
    assert [p.name for p in secret.iterdir()] == ["other.dcm"]
    assert not (tmp_path / "made").exists()
    assert (watched.path / "drop").exists()
    (entry,) = [e for e in logs if e["event"] == "drop_not_moved"]
    assert "must be folders, not symbolic links" in entry["remedy"]


def test_a_note_never_writes_through_a_link(tmp_path: Path) -> None:
    watched, secret = WatchedInbox(tmp_path), outside(tmp_path)
    target = secret / "other.dcm"
    for name in ("drop", "drop.reason.txt", "drop.reason.txt.partial"):
        (watched.path / "rejected" / f"20260102T030405Z-{name}").symlink_to(target)
    (watched.path / "drop").write_bytes(b"no image")
    watched.settle()
    assert target.read_bytes() == image(99)
    assert "20260102T030405Z-drop-2" in watched.names("rejected")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_folder_that_becomes_a_link_is_not_followed(level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the scan, before its files are opened."""
    watched, secret = WatchedInbox(tmp_path), outside(tmp_path)
    names = ["drop", "sub", "inner"][: level + 1]
    folder = watched.path.joinpath(*names)
    folder.mkdir(parents=True)
    (folder / "other.dcm").write_bytes(image(1))
    real = daemon.watch.inbox.ingest

    def replaced(*args: object, **kwargs: object) -> object:
        folder.rename(tmp_path / "moved")
        folder.symlink_to(secret)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(daemon.watch.inbox, "ingest", replaced)
    watched.settle()
    monkeypatch.undo()
    settle_for_long(watched)
    assert image(99) not in [f for a in watched.arrivals() for f in a["files"]]
    assert (secret / "other.dcm").exists()


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_a_file_that_becomes_something_else_is_not_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, secret = WatchedInbox(tmp_path), outside(tmp_path)
    path = watched.path / "1.dcm"
    path.write_bytes(image(1))
    real = daemon.watch.inbox.ingest

    def replaced(*args: object, **kwargs: object) -> object:
        path.unlink(missing_ok=True)
        {"fifo": os.mkfifo, "link": lambda p: p.symlink_to(secret / "other.dcm"), "folder": Path.mkdir}[kind](path)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(daemon.watch.inbox, "ingest", replaced)
    watched.settle()
    assert watched.arrivals() == []


def test_a_folder_that_becomes_a_link_within_the_scan_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, secret = WatchedInbox(tmp_path), outside(tmp_path)
    (watched.path / "drop").mkdir()
    (watched.path / "drop" / "1.dcm").write_bytes(image(1))
    real = daemon.watch.scan._walk

    def replaced(root: Path, top: str, depth: int) -> object:
        (watched.path / "drop").rename(tmp_path / "moved")
        (watched.path / "drop").symlink_to(secret)
        return real(root, top, depth)

    monkeypatch.setattr(daemon.watch.scan, "_walk", replaced)
    (drop,) = daemon.watch.scan.scan(watched.path)
    assert [(e.name, e.kind) for e in drop.entries] == [("drop", daemon.watch.scan.EntryKind.UNREADABLE)]
