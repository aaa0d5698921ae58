"""Delivery into the results folder: readers are not disturbed, and a failure in the middle keeps the earlier content."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from config.delivery import FolderSettings
from corewatch.errors import RetryLater
from outputs.destinations.folder import COMPLETE, FolderDestination
from tests.support.results import make_case


def test_a_new_result_json_replaces_that_file_alone(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", dicom=False)
    case.folder.path.mkdir(parents=True, exist_ok=True)
    destination = FolderDestination(FolderSettings(path=tmp_path / "results"))
    case.folder.summary.write_bytes(b"page")
    case.folder.result.write_text('{"state": "delivering"}')
    destination.deliver(case)
    target = tmp_path / "results" / case.case_id
    before = {p.name: p.stat().st_ino for p in (target, target / "summary.png", target / COMPLETE)}
    case.folder.result.write_text('{"state": "delivered"}')
    destination.deliver(case)
    assert (target / "result.json").read_text() == '{"state": "delivered"}'
    assert {p.name: p.stat().st_ino for p in (target, target / "summary.png", target / COMPLETE)} == before


def test_what_was_there_comes_back_when_the_new_folder_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tmp_path / "case", dicom=False)
    case.folder.path.mkdir(parents=True, exist_ok=True)
    destination = FolderDestination(FolderSettings(path=tmp_path / "results"))
    case.folder.summary.write_bytes(b"first")
    case.folder.result.write_text("{}")
    destination.deliver(case)
    target = tmp_path / "results" / case.case_id
    case.folder.summary.write_bytes(b"second")
    rename = Path.rename

    def refuse(self: Path, to: Path) -> Path:
        if self.suffix == ".part":
            raise OSError(errno.EIO, "disk")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RetryLater):
        destination.deliver(case)
    assert (target / "summary.png").read_bytes() == b"first"
    assert (target / COMPLETE).exists()
