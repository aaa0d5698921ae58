from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.watch.scan import EntryKind, is_hidden, is_partial, scan


def test_files_and_folders_are_drops_sorted_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.dcm").write_bytes(b"12")
    (tmp_path / "a" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"1")
    (tmp_path / "a" / "deep" / "deeper" / "two").write_bytes(b"22")
    folder, file = scan(tmp_path)
    assert (folder.name, folder.is_folder, folder.size) == ("a", True, 3)
    assert [e.name for e in folder.entries] == ["deep/deeper/two", "one"]
    assert (file.name, file.is_folder, file.size) == ("b.dcm", False, 2)


@pytest.mark.parametrize(
    "name", [".hidden", "x.part", "X.TMP", "image.dcm.filepart", "notes~", "Thumbs.db", "processed", "rejected"]
)
def test_names_that_are_not_drops(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"1")
    assert scan(tmp_path) == []


def test_results_folders_are_only_special_at_the_top(tmp_path: Path) -> None:
    (tmp_path / "a" / "processed").mkdir(parents=True)
    (tmp_path / "a" / "processed" / "x").write_bytes(b"1")
    assert [e.name for e in scan(tmp_path)[0].entries] == ["processed/x"]


def test_an_empty_folder_is_not_a_drop_yet(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert scan(tmp_path) == []


def test_links_and_pipes_are_seen_but_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "secret").mkdir(parents=True)
    (outside / "secret" / "x").write_bytes(b"1")
    inbox = tmp_path / "inbox"
    (inbox / "folder").mkdir(parents=True)
    (inbox / "link").symlink_to(outside / "secret" / "x")
    (inbox / "dirlink").symlink_to(outside)
    (inbox / "folder" / "dirlink").symlink_to(outside)
    os.mkfifo(inbox / "pipe")
    kinds = {e.name: e.kind for drop in scan(inbox) for e in drop.entries}
    assert kinds == {"link": EntryKind.LINK, "dirlink": EntryKind.LINK, "pipe": EntryKind.SPECIAL} and len(scan(inbox)) == 4


def test_signature_changes_with_every_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    first = scan(tmp_path)[0].signature
    assert scan(tmp_path)[0].signature == first
    (tmp_path / "a" / "y").write_bytes(b"1")
    second = scan(tmp_path)[0].signature
    os.utime(tmp_path / "a" / "y", ns=(1, 1))
    third = scan(tmp_path)[0].signature
    assert len({first, second, third}) == 3


def test_half_written_files_are_noticed(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(content)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.part").write_bytes(b"1")
    assert [d.unfinished for d in scan(tmp_path)] == [False, True, True]


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "hidden", "partial"),
    [
        ("image.dcm", False, False),
        ("a.PART", False, True),
        *((name, True, False) for name in (".DS_Store", "._a.dcm", "~$a.docx", "THUMBS.DB", "@eaDir", "$RECYCLE.BIN")),
    ],
)
def test_names(name: str, hidden: bool, partial: bool) -> None:
    assert (is_hidden(name), is_partial(name)) == (hidden, partial)
