"""`run_case` on folders that hold something already: nothing of another case stays, nothing of anybody else's goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.settings import ModelSettings, Settings
from conversion.converters import ConverterName
from corewatch.casefolder import CaseFolder
from corewatch.errors import ConfigurationError
from corewatch.reasons import Reason
from corewatch.states import CaseState
from outputs.dicom.object_manifest import MANIFEST
from tests.support_conversion import stack, write
from worker.foreground import _select_input, run_case
from worker.stages.prepare import DicomSource

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


def broken(folder: Path, kind: str) -> Path:
    """One file that cannot be read beside the slices of a series."""
    whole = min(folder.iterdir()).read_bytes()
    path = folder / "IM_BROKEN"
    content = {
        "damaged header": whole[:300],
        "cut short": whole[:-500],
        "without UIDs": b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0",
        "noise": b"\0" * 128 + b"DICM" + bytes(range(256)) * 8,
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize("kind", ["damaged header", "cut short", "without UIDs", "noise"])
def test_one_broken_file_beside_a_series_is_named_and_set_aside(tmp_path: Path, kind: str) -> None:
    paths = write(tmp_path / "in", stack([2.6 * n for n in range(41)]))
    broken(tmp_path / "in", kind)
    said: list[str] = []
    selected = _select_input(tmp_path / "in", tmp_path, SETTINGS, aligned=False)
    assert isinstance(selected.source, DicomSource)
    assert sorted(selected.source.paths) == sorted(paths)
    result = run_case(tmp_path / "in", tmp_path / "out", SETTINGS, progress=said.append)
    (note,) = result.notes[:1]
    assert note.startswith("File IM_BROKEN set aside.")
    assert note in said
    assert json.loads((tmp_path / "out" / "result.json").read_text())["notes"][0] == note
    assert result.reason is Reason.NOT_A_HEAD, "the series itself was read, and is no head"


def test_files_that_are_all_broken_are_named(tmp_path: Path) -> None:
    for n, path in enumerate(write(tmp_path / "in", stack([2.6 * n for n in range(8)]))):
        path.write_bytes(path.read_bytes()[: 200 + n])
    result = run_case(tmp_path / "in", tmp_path / "out", SETTINGS)
    assert result.reason is Reason.UNREADABLE
    assert "File 0000 set aside." in result.detail
    assert "3 more files" in result.detail


def test_a_run_with_the_other_converter_and_the_comparison_says_so(tmp_path: Path) -> None:
    write(tmp_path / "in", stack([2.6 * n for n in range(41)]))
    result = run_case(tmp_path / "in", tmp_path / "out", SETTINGS, converter=ConverterName.DICOM2NIFTI, compare=True)
    assert result.notes[0].startswith("The converters agree in every voxel")
    assert result.reason is Reason.NOT_A_HEAD
    assert "Converted by dicom2nifti." in result.detail
