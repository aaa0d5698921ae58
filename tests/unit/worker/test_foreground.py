"""`run_case` on folders that hold something already: nothing of another case stays, nothing of anybody else's goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.settings import ModelSettings, Settings
from corewatch.casefolder import CaseFolder
from corewatch.errors import ConfigurationError
from corewatch.reasons import Reason
from corewatch.states import CaseState
from outputs.dicom.object_manifest import MANIFEST
from tests.support_conversion import stack, write
from worker.foreground import run_case

SETTINGS = Settings(model=ModelSettings(spread=False))


@pytest.fixture
def out(tmp_path: Path) -> CaseFolder:
    """As an alert of an earlier case left it."""
    folder = CaseFolder(tmp_path / "out")
    folder.dicom.mkdir(parents=True)
    folder.result.write_text('{"state": "delivered", "alert": true}')
    for path in (folder.summary, folder.qc, folder.aligned, folder.core_map, folder.core_map_native, folder.finding):
        path.write_bytes(b"of another case")
    (folder.dicom / "sc-001.dcm").write_bytes(b"of another case")
    (folder.dicom / MANIFEST).write_text(json.dumps({"made": {"sc": ["sc-001.dcm"]}, "left_out": {}}))
    return folder


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of_another_case(folder: CaseFolder) -> list[str]:
    return [path.name for path, content in snapshot(folder.path).items() if content == b"of another case"]


def test_nothing_of_an_earlier_case_stays_beside_one_that_is_not_analysed(out: CaseFolder, tmp_path: Path) -> None:
    write(tmp_path / "in", stack([0.0, 1.0, 2.0]))

    result = run_case(tmp_path / "in", out.path, SETTINGS)

    assert result.state is CaseState.NOT_ANALYSED
    assert json.loads(out.result.read_text())["alert"] is None
    assert of_another_case(out) == []


def test_nothing_of_an_earlier_case_stays_beside_one_that_fails(
    out: CaseFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("worker.foreground._select_input", fail)
    (tmp_path / "in").mkdir()

    with pytest.raises(MemoryError):
        run_case(tmp_path / "in", out.path, SETTINGS)
    assert of_another_case(out) == []
    assert not out.result.exists()


@pytest.mark.parametrize("given", ["out/dicom", "out", "in"])
def test_images_that_lie_where_the_objects_would_go_are_never_replaced(tmp_path: Path, given: str) -> None:
    """`corewatch run CASE/dicom --out CASE` would be the end of the source."""
    for path in write(tmp_path / "out" / "dicom", stack([0.0, 1.0, 2.0])):
        path.rename(path.with_suffix(".dcm"))
    write(tmp_path / "in", stack([0.0, 1.0, 2.0]))
    before = snapshot(tmp_path)

    with pytest.raises(ConfigurationError, match="choose another folder"):
        run_case(tmp_path / given, tmp_path / "out", SETTINGS)
    assert snapshot(tmp_path) == before


def test_the_results_of_an_earlier_run_are_no_input_for_the_next_into_the_same_folder(out: CaseFolder) -> None:
    before = snapshot(out.path)

    with pytest.raises(ConfigurationError, match="choose another folder"):
        run_case(out.dicom, out.path, SETTINGS)
    assert snapshot(out.path) == before


def test_a_list_of_objects_that_cannot_be_read_protects_them(out: CaseFolder, tmp_path: Path) -> None:
    (out.dicom / MANIFEST).write_text("{")
    (tmp_path / "in").mkdir()

    with pytest.raises(ConfigurationError, match="choose another folder"):
        run_case(tmp_path / "in", out.path, SETTINGS)


def test_without_its_model_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.stages.bodies.prepare", lambda *_, **__: pytest.fail("converted in vain"))
    head = tmp_path / "head.nii.gz"
    head.write_bytes(b"any")

    with pytest.raises(ConfigurationError, match="there is no model 'absent'"):
        run_case(head, tmp_path / "out", SETTINGS, model="absent")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_without_a_gpu_the_gpu_is_an_error_before_anything_is_begun(tmp_path: Path) -> None:
    from cli.checks.analysis import gpus

    head = tmp_path / "head.nii.gz"
    head.write_bytes(b"no NIfTI")
    settings = Settings(model=ModelSettings(device="gpu"))
    if gpus():
        assert run_case(head, tmp_path / "out", settings).reason is Reason.UNREADABLE
        return
    with pytest.raises(ConfigurationError, match=r"model\.device is gpu, but TensorFlow finds no GPU"):
        run_case(head, tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
