"""What the stages keep of the source's slices, so that results can be laid over them and name what they replace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from config.settings import Settings
from conversion.convert import convert_with_reference
from corewatch.casefolder import CaseFolder
from tests.support.results import make_case
from tests.support_conversion import enhanced, head, image, write
from worker.context import destinations_of
from worker.stages.case_files import PreparedRecord

TILT = np.tan(np.radians(18.0))


@pytest.mark.parametrize("kind", ["regular", "tilted", "irregular", "multi-frame"])
def test_the_slices_are_kept_as_the_modality_made_them(kind: str, tmp_path: Path) -> None:
    """Whatever was sheared or interpolated for the volume, results lie over the images themselves."""
    zs = [0.0, 1.0, 2.5, 3.5, 4.5] if kind == "irregular" else [0.0, 1.0, 2.0, 3.0, 4.0]
    places = [(-5.0, -6.0 + (TILT * z if kind == "tilted" else 0.0), z) for z in zs]
    datasets = [image(head(seed=n), place, n + 1) for n, place in enumerate(places)]
    files = [enhanced(datasets[::-1])] if kind == "multi-frame" else datasets[::-1]
    _, reference = convert_with_reference(write(tmp_path / "in", files))
    kept = reference.images
    assert [one.position_lps for one in kept.slices] == [pytest.approx(place) for place in places]
    assert (kept.rows, kept.columns) == (datasets[0].Rows, datasets[0].Columns)
    assert kept.spacing_mm == tuple(datasets[0].PixelSpacing)
    assert kept.orientation == tuple(datasets[0].ImageOrientationPatient)
    assert [one.frame for one in kept.slices] == ([5, 4, 3, 2, 1] if kind == "multi-frame" else [1] * 5)
    centre = kept.pixel_to_lps(1) @ [2.0, 3.0, 0.0, 1.0]
    row, column = (np.array(kept.orientation[i : i + 3]) for i in (0, 3))
    expected = np.array(places[1]) + 2.0 * kept.spacing_mm[1] * row + 3.0 * kept.spacing_mm[0] * column
    assert centre[:3] == pytest.approx(expected)

    folder = CaseFolder(tmp_path)
    PreparedRecord("1.2", reference.instances, None, None, None, 0.5, 1.5, kept).write(folder)
    assert PreparedRecord.read(folder).source_images == kept


def test_a_file_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    folder = CaseFolder(tmp_path)
    PreparedRecord("1.2", (), None, None, None, 0.5, 1.5, make_case(tmp_path / "case").source_images).write(folder)
    data = json.loads(folder.prepared.read_text())
    del data["source_images"]
    folder.prepared.write_text(json.dumps(data))
    assert PreparedRecord.read(folder).source_images is None


def test_the_folder_is_named_by_the_settings(tmp_path: Path) -> None:
    folder = {"path": str(tmp_path / "results"), "pattern": "{date}/{side}-{case_id}"}
    settings = Settings.model_validate({"deliver": {"folder": folder}})
    case = make_case(tmp_path / "case")
    case.folder.result.write_text("{}")
    assert destinations_of(settings)["folder"].deliver(case).detail == f"1 files in folder 2026-11-20/left-{case.case_id}"
