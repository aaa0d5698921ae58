"""Atomic writes: the old content or the new, never a part, and the permissions that were asked for."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation import durable
from foundation.durable import GROUP, OWNER, SHARED, create_durably, create_once, replacing, write_durably


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_fsync_of(monkeypatch: pytest.MonkeyPatch, code: int, *, folders: bool) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) is folders:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def with_replacing(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def with_create(path: Path, content: bytes) -> None:
    create_durably(path, [content[:1], content[1:]])


WRITERS = [write_durably, with_replacing, with_create]


@pytest.mark.parametrize("write", WRITERS)
def test_new_content_replaces_the_old(tmp_path: Path, write: Callable[[Path, bytes], None]) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    fail_fsync_of(monkeypatch, errno.ENOSPC, folders=False)
    with pytest.raises(OSError, match="No space"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_an_error_in_the_block_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_durably(path, b"old")
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("code", sorted(durable._NO_FOLDER_SYNC))
@pytest.mark.parametrize("write", WRITERS)
def test_a_share_without_fsync_of_folders_takes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None], code: int
) -> None:
    fail_fsync_of(monkeypatch, code, folders=True)
    write(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


def test_a_name_that_may_be_lost_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_durably(tmp_path / "old", b"old")
    fail_fsync_of(monkeypatch, errno.EIO, folders=True)
    with pytest.raises(OSError, match="Input/output"):
        create_durably(tmp_path / "new", [b"x"])
    assert names(tmp_path) == ["old"]  # the sender sends it again
    with pytest.raises(OSError, match="Input/output"):
        write_durably(tmp_path / "old", b"new")
    assert names(tmp_path) == ["old"]  # the file that existed is not removed


def test_without_its_name_synced_no_folder_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_fsync_of(monkeypatch, errno.EIO, folders=True)
    write_durably(tmp_path / "a", b"x", sync_name=False)
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [SHARED, GROUP, OWNER])
def test_permissions_are_the_mode_without_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_durably(tmp_path / "a", b"x", mode=mode)
        create_durably(tmp_path / "b", [b"x"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode & ~umask
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == GROUP & ~umask


def test_the_first_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_once(path, b"first")
    create_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == OWNER
    assert names(tmp_path) == ["key"]


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    durable.make_folders(tmp_path / "a" / "b")
    durable.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
