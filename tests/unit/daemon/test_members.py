from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversion.media import ARCHIVE_LIMITS, ArchiveLimits
from daemon.watch.content import LeftOut
from daemon.watch.members import DropChanged, DropRejected, Member, check_archive, members, read_file
from daemon.watch.scan import Drop, scan


def only(folder: Path) -> Drop:
    (drop,) = scan(folder)
    return drop


def contents(drop: Drop) -> dict[str, bytes]:
    return {m.name: m.read() for m in members(drop) if isinstance(m, Member)}


def left_out(drop: Drop) -> dict[str, str]:
    return {m.name: m.reason for m in members(drop) if isinstance(m, LeftOut)}


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def test_files_of_a_folder_the_recipients_first(tmp_path: Path) -> None:
    (tmp_path / "drop" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b", "email.txt"):
        (tmp_path / "drop" / name).write_bytes(name.encode() * 100)
    found = contents(only(tmp_path))
    assert found == {name: name.encode() * 100 for name in ("email.txt", "a", "deep/b")}
    assert next(iter(found)) == "email.txt"


def test_special_files_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    (folder / "ok").write_bytes(b"1")
    (folder / "link").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    (folder / "old.part").write_bytes(b"1")
    write_zip(folder / "inner.zip", {"x": b"1"})
    drop = only(tmp_path)
    assert contents(drop) == {"ok": b"1"}
    assert set(left_out(drop)) == {"link", "pipe", "old.part", "inner.zip"}


def test_a_file_that_changed_since_it_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1234")
    entry = only(tmp_path).entries[0]
    path.write_bytes(b"12345")
    with pytest.raises(DropChanged):
        read_file(entry)
    path.unlink()
    with pytest.raises(DropChanged):
        read_file(entry)


def test_a_link_put_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234")
    (inbox / "x").write_bytes(b"1234")
    entry = only(inbox).entries[0]
    (inbox / "x").unlink()
    (inbox / "x").symlink_to(secret)
    with pytest.raises(DropChanged):
        read_file(entry)
    (inbox / "x").unlink()
    os.mkfifo(inbox / "x")
    with pytest.raises(DropChanged):
        read_file(entry)


def test_a_file_without_read_permission_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"1")
    drop = only(tmp_path)

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    # not by the file's mode, which does not bind root
    monkeypatch.setattr("daemon.watch.members.os.open", refuse)
    assert "permissions" in left_out(drop)["x"]


def test_a_zip_is_read_in_place_recipients_first(tmp_path: Path) -> None:
    files = {"a/1": b"1" * 1000, "__MACOSX/x": b"2", ".hidden": b"3", "email.txt": b"x@y.z"}
    write_zip(tmp_path / "any name", files)
    found = contents(only(tmp_path))
    assert found == {"email.txt": b"x@y.z", "a/1": b"1" * 1000}
    assert next(iter(found)) == "email.txt"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "C:/x"])
def test_path_traversal_in_a_zip_is_rejected(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "x.zip", {"fine": b"1", name: b"1"})
    with pytest.raises(DropRejected, match="lead out"):
        contents(only(tmp_path))


def test_links_in_a_zip_are_rejected(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DropRejected, match="links"):
        contents(only(tmp_path))


def test_a_zip_bomb_is_rejected_before_anything_is_unpacked(tmp_path: Path) -> None:
    write_zip(tmp_path / "x.zip", {"bomb": bytes(100_000_000)})
    assert (tmp_path / "x.zip").stat().st_size < 1_000_000
    with pytest.raises(DropRejected, match="far more data"):
        contents(only(tmp_path))


def test_an_entry_with_a_wrong_size_is_rejected(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(1_000_000))
    data = buffer.getvalue().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(DropRejected, match="damaged"):
        contents(only(tmp_path))


def test_too_many_files_or_bytes_are_rejected() -> None:
    infos = [zipfile.ZipInfo(str(n)) for n in range(3)]
    check_archive(infos[:2], 1000, ArchiveLimits(files=2))
    with pytest.raises(DropRejected, match="too many"):
        check_archive(infos, 1000, ArchiveLimits(files=2))
    infos[0].file_size = ARCHIVE_LIMITS.total_bytes + 1
    with pytest.raises(DropRejected, match="too much"):
        check_archive(infos[:1], ARCHIVE_LIMITS.total_bytes)


def test_an_encrypted_zip_is_rejected() -> None:
    info = zipfile.ZipInfo("x")
    info.flag_bits = 0x1
    with pytest.raises(DropRejected, match="password"):
        check_archive([info], 1000)


@given(cut=st.integers(4, 400), noise=st.binary(max_size=50))
def test_a_damaged_zip_is_rejected(tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes) -> None:
    folder = tmp_path_factory.mktemp("zip")
    write_zip(folder / "x.zip", {"a": bytes(range(256)), "b": b"2"})
    data = (folder / "x.zip").read_bytes()
    (folder / "x.zip").write_bytes(data[:cut] + noise)
    if data[:cut] + noise != data:
        with pytest.raises(DropRejected):
            contents(only(folder))


@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=1
    )
)
def test_no_accepted_name_is_outside_the_zip(names: list[str]) -> None:
    infos = [zipfile.ZipInfo(n) for n in names]
    try:
        check_archive(infos, 1000)
    except DropRejected:
        return
    for info in infos:
        inside = os.path.normpath("/inbox/drop/" + info.filename.replace("\\", "/"))
        assert inside.startswith("/inbox/drop")


@pytest.mark.parametrize("when", ["before its table is read", "before a file is read"])
def test_a_zip_that_is_rewritten_while_it_is_read_is_not_damaged(tmp_path: Path, when: str) -> None:
    path = tmp_path / "drop.zip"
    write_zip(path, {str(n): os.urandom(3000) for n in range(4)})
    found = members(only(tmp_path))
    reading = when == "before a file is read"
    first = next(found) if reading else None
    data = path.read_bytes()
    with path.open("r+b") as stream:  # the same file, as cp does it
        stream.write(bytes(len(data) - 22))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    with pytest.raises(DropChanged):
        if isinstance(first, Member):
            first.read()
        list(found)


def test_a_zip_that_is_damaged_stays_damaged(tmp_path: Path) -> None:
    path = tmp_path / "drop.zip"
    write_zip(path, {str(n): os.urandom(3000) for n in range(4)})
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes(2000) + data[2100:])
    with pytest.raises(DropRejected, match="damaged"):
        contents(only(tmp_path))
