"""What a killed worker was writing is removed when the case is started again, whichever module wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corewatch.casefolder import CaseFolder
from corewatch.errors import NotAnalysed
from foundation.durable import create_durably, replacing, write_durably
from tests.support_conversion import stack, write
from worker.stages.prepare import DicomSource, prepare


class Killed(BaseException):
    """The power goes: nothing is tidied up."""


def with_replacing(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half")


def with_write_durably(path: Path) -> None:
    write_durably(path, b"half")


def with_create_durably(path: Path) -> None:
    create_durably(path, [b"half"])


@pytest.fixture
def no_tidying(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        yield patch


@pytest.mark.parametrize("writer", [with_replacing, with_write_durably, with_create_durably], ids=lambda f: f.__name__)
def test_left_over_files_go(tmp_path: Path, no_tidying: pytest.MonkeyPatch, writer: Callable[[Path], None]) -> None:
    folder = CaseFolder(tmp_path / "case")
    folder.dicom.mkdir(parents=True)
    for path in (folder.aligned, folder.dicom / "sc-001.dcm"):
        with pytest.raises(Killed):
            writer(path)
    folder.dicom.joinpath("sc-002.dcm").write_bytes(b"whole")
    left = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(left) == 3
    no_tidying.undo()
    series = tuple(write(tmp_path / "in", stack([0.0])))
    with pytest.raises(NotAnalysed):
        prepare(DicomSource(series), folder, minimum_score=None)
    kept = {path.name for path in folder.path.rglob("*") if path.is_file()}
    assert kept == {"sc-002.dcm", folder.source_header.name}
