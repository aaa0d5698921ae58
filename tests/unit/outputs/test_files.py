"""Files appear whole or not at all."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outputs.case import ReportedCase
from outputs.files import write_atomically
from tests.support.results import make_case


def test_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_fault_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_case_needs_zones_and_its_own_result(tmp_path: Path) -> None:
    case = make_case(tmp_path, dicom=False)
    naive = datetime(2026, 11, 20, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(ValueError, match="zone"):
        ReportedCase(case.case_id, case.key, case.result, case.folder, naive, case.analysed_at)
    with pytest.raises(ValueError, match="another case"):
        ReportedCase("other", case.key, case.result, case.folder, case.received_at, case.analysed_at)
