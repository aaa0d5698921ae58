"""Quirks of real scanners and archives, from the shared tool: each ends as a radiographer expects."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pydicom
import pytest

from config.series import SeriesRule
from conversion.convert import convert_with_reference
from conversion.headers import read_instance
from conversion.series_checks import WHOLE_HEAD
from corewatch.errors import NotAnalysed
from corewatch.selection import Rejected, select
from tests.conftest import SHARED

TOOL = SHARED / "tools" / "quirks.py"
RULE = SeriesRule(name="cta-head").to_rule()
SLICES = "48"


def tool() -> ModuleType | None:
    """The shared tool as a module; None where it is absent."""
    if not TOOL.exists():
        return None
    spec = importlib.util.spec_from_file_location("quirks", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


QUIRKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = getattr(tool(), "QUIRKS", {})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Path]:
    """A head of few slices, each of a quarter of its pixels: headers and geometry decide here."""
    folder = tmp_path_factory.mktemp("base")
    head = shared / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz"
    command = [
        sys.executable,
        str(shared / "tools" / "make_series.py"),
        str(head),
        str(folder),
        "--slices",
        SLICES,
        "--coverage",
        "120",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array[::4, ::4]
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelSpacing, dataset.PixelData = [4 * float(v) for v in dataset.PixelSpacing], pixels.tobytes()
        dataset.save_as(path, enforce_file_format=True)
    yield folder


def outcome(folder: Path) -> tuple[str, str, str]:
    """State, reason and words of a series after selection and conversion."""
    paths = sorted(folder.glob("*.dcm"))
    answer = select([read_instance(path) for path in paths], [RULE])
    if isinstance(answer, Rejected):
        return "not_analysed", str(answer.reason), str(NotAnalysed(answer.reason, answer.detail))
    try:
        _, reference = convert_with_reference(paths, requirements=WHOLE_HEAD)
    except NotAnalysed as error:
        return "not_analysed", str(error.reason), str(error)
    return "delivered", "", " ".join(reference.notes)


@pytest.mark.parametrize("name", list(QUIRKS) or [pytest.param("", marks=pytest.mark.skip(reason="the shared tool is not here"))])
def test_a_quirk_ends_as_a_radiographer_expects(name: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tool()
    assert module is not None
    monkeypatch.setattr(sys, "argv", ["quirks.py", str(base), str(tmp_path), name])
    module.main()
    expected = json.loads((tmp_path / "expected.json").read_text())
    state, reason, words = outcome(tmp_path)
    assert state == expected["state"], (reason, words)
    assert reason in (expected["reasons"] or [""])
    assert (expected["says"] or "") in words


def test_the_series_without_a_quirk_is_converted(base: Path) -> None:
    assert outcome(base) == ("delivered", "", "")
