"""A worker that is killed between any two file operations of a folder delivery: nobody sees half a result, and the next one heals.

The delivery runs in a forked child whose audit hook counts every file operation below the results folder and ends the process,
without any clean-up, at the chosen one.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from pathlib import Path

import pytest

from config.delivery import FolderSettings
from corewatch.errors import RetryLater
from corewatch.findings import Side
from outputs.case import ReportedCase
from outputs.destinations.folder import COMPLETE, FolderDestination
from tests.support.results import finding, make_case

KILLED = 97
PATTERN = "{date}/{side}-{case_id}"
OPERATIONS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.copyfile", "os.scandir"})
MOST = 400


def case_with(folder: Path, content: bytes, side: Side = Side.LEFT) -> ReportedCase:
    """A case with two pages and objects, all of which hold `content`."""
    case = make_case(folder)
    case.folder.dicom.mkdir(parents=True, exist_ok=True)
    for path in (case.folder.summary, case.folder.result, case.folder.dicom / "sc-001.dcm", case.folder.dicom / "sr-001.dcm"):
        path.write_bytes(content)
    return dataclasses.replace(case, result=dataclasses.replace(case.result, finding=finding(side=side)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seen(root: Path) -> list[dict[str, bytes]]:
    """What a program gets that waits for results: every folder with the marker, hidden ones left out."""
    marked = [path.parent for path in root.rglob(COMPLETE)] if root.exists() else []
    found = [folder for folder in marked if not any(part.startswith(".") for part in folder.relative_to(root).parts)]
    return [{name: data for name, data in contents(folder).items() if "/." not in f"/{name}"} for folder in found]


def killed_at(number: int, root: Path, case: ReportedCase) -> bool:
    """Deliver in a child that dies at its `number`th file operation; whether it died before it was done."""
    child = os.fork()
    if child == 0:  # pragma: no cover - ends without a report
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event in OPERATIONS and any(isinstance(a, str | Path) and str(a).startswith(str(root)) for a in arguments):
                count += 1
                if count == number:
                    os._exit(KILLED)

        sys.addaudithook(hook)
        try:
            FolderDestination(FolderSettings(path=root, pattern=PATTERN)).deliver(case)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


@pytest.mark.parametrize(
    "before", ["nothing", "an earlier result", "an earlier result under another name", "only result.json differs"]
)
def test_killed_anywhere(before: str, tmp_path: Path) -> None:
    new = case_with(tmp_path / "new", b"new")
    first = FolderDestination(FolderSettings(path=tmp_path / "expected", pattern=PATTERN))
    first.deliver(new)
    (whole,) = seen(tmp_path / "expected")
    old: list[dict[str, bytes]] = []
    number = 0
    for number in range(1, MOST):
        root = tmp_path / f"results-{number}"
        if before != "nothing":
            side = Side.RIGHT if "name" in before else Side.LEFT
            earlier = case_with(tmp_path / "old", b"old", side)
            if "only" in before:
                for path in (earlier.folder.summary, *earlier.folder.dicom.iterdir()):
                    path.write_bytes(b"new")
            FolderDestination(FolderSettings(path=root, pattern=PATTERN)).deliver(earlier)
            old = seen(root)
        died = killed_at(number, root, new)
        assert all(result == whole or result in old for result in seen(root)), number
        FolderDestination(FolderSettings(path=root, pattern=PATTERN)).deliver(new)
        assert seen(root) == [whole], number
        assert contents(root / "2026-11-20" / f"left-{new.case_id}") == whole
        assert [path.name for path in (root / "2026-11-20").iterdir()] == [f"left-{new.case_id}"], number
        if not died:
            break
    assert 10 < number < MOST - 1, "the whole delivery was walked through"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EBUSY, errno.ENOTEMPTY, errno.EIO, errno.ENOSPC, errno.ESTALE])
def test_a_share_that_refuses_the_rename_costs_an_attempt_and_no_result(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "results"
    destination = FolderDestination(FolderSettings(path=root))
    destination.deliver(case_with(tmp_path / "old", b"old"))
    old, rename, refused = seen(root), Path.rename, 0

    def refuse(self: Path, to: Path) -> Path:
        nonlocal refused
        if self.suffix == ".part":
            refused += 1
            raise OSError(code, os.strerror(code))
        return rename(self, to)

    new = case_with(tmp_path / "new", b"new")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.raises(RetryLater, match=r"results folder"):
            destination.deliver(new)
    assert refused == 1
    assert seen(root) == old
    destination.deliver(new)
    assert [set(result.values()) for result in seen(root)] == [{b"new", b""}]
    assert len(list(root.iterdir())) == 1


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_share_that_cannot_sync_folders_is_good_enough(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fsync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(code, os.strerror(code))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    FolderDestination(FolderSettings(path=tmp_path / "results")).deliver(case_with(tmp_path / "case", b"x"))
    assert len(seen(tmp_path / "results")) == 1


def test_the_record_names_no_patient(tmp_path: Path) -> None:
    case = case_with(tmp_path / "case", b"x")
    destination = FolderDestination(FolderSettings(path=tmp_path / "results", pattern="{patient_id}/{accession_number}-{case_id}"))
    assert destination.deliver(case).detail == f"4 files in folder {case.case_id}"
    assert (tmp_path / "results" / "PID-4711" / f"ACC00042-{case.case_id}" / COMPLETE).exists()


def test_two_cases_of_one_patient_lie_beside_each_other(tmp_path: Path) -> None:
    destination = FolderDestination(FolderSettings(path=tmp_path / "results", pattern="{patient_id}/{case_id}"))
    first = case_with(tmp_path / "1", b"1")
    second = dataclasses.replace(
        case_with(tmp_path / "2", b"2"), case_id="zzzzzzzzzz", result=dataclasses.replace(first.result, case_id="zzzzzzzzzz")
    )
    destination.deliver(first)
    destination.deliver(second)
    assert len(seen(tmp_path / "results")) == 2
