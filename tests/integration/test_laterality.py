"""Left stays left: a core whose side is known, followed through every step, from the scanner's LPS to the answer and back.

Sides cannot be seen in an image: they come from the header alone. Each step is looked at in its own frame, so that two mistakes
that undo each other show too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from config.settings import ModelSettings, Settings
from conversion.convert import convert_series
from corewatch.findings import CORE_MAP_THRESHOLD, Side
from corewatch.geometry import LPS_TO_RAS, NETWORK_TO_RAS, Matrix, apply
from corewatch.result import Result
from corewatch.states import CaseState
from outputs.pages.axial_slices import CONTOUR, core_areas
from outputs.pages.axial_slices import render as axial
from phantom.dicom_series import SeriesTruth, write_series
from phantom.head import HeadSpec, PhantomHead, make_head
from tests.support.positions import rewritten
from worker.foreground import run_case

pytestmark = pytest.mark.slow

SETTINGS = Settings(model=ModelSettings(spread=False))


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A synthetic patient and what became of the series."""

    side: Side
    truth: SeriesTruth
    files: list[Path]
    core_lps: NDArray[np.float64]
    mirror_lps: NDArray[np.float64]
    folder: Path
    result: Result

    @property
    def right(self) -> bool:
        return self.side is Side.RIGHT


def points_of(head: PhantomHead, template_to_lps: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Some points of the true core and their mirror images, LPS mm of the scanner."""
    ras = apply(head.voxel_to_ras, np.argwhere(head.core_mask)[::50])
    return apply(template_to_lps, ras), apply(template_to_lps, ras * [-1, 1, 1])


@pytest.fixture(scope="module", params=[(Side.RIGHT, "HFS"), (Side.LEFT, "FFP"), (Side.LEFT, "HFDL")], ids=lambda p: "-".join(p))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    side, position = request.param
    head = make_head(HeadSpec(6, 90.0, side))
    folder = tmp_path_factory.mktemp("laterality")
    scan = {"slices": 100, "coverage_mm": 200.0, "matrix": 192, "seed": 2}
    truth = write_series(head, folder / "hfs", **scan, descending=side is Side.LEFT)
    files = rewritten(truth.files, folder / "in", position)
    template_to_lps = np.asarray(np.linalg.inv(NETWORK_TO_RAS @ truth.lps_to_network), np.float64)
    core, mirror = points_of(head, template_to_lps)
    result = run_case(folder / "in", folder / "out", SETTINGS, qc=True)
    assert result.state is CaseState.DELIVERED, result.detail
    return Case(side, truth, files, core, mirror, folder / "out", result)


def mean_at(hu: NDArray[Any], lps_to_index: Matrix, points: NDArray[np.float64]) -> float:
    index = np.rint(apply(lps_to_index, points)).astype(int)
    return float(np.median(hu[tuple(index.T)]))


def centroid(mask: NDArray[np.bool_], to_world: Matrix) -> NDArray[np.float64]:
    return apply(to_world, np.argwhere(mask).mean(axis=0))


def test_the_source_says_where_the_core_is(case: Case) -> None:
    """LPS: x grows to the patient's left."""
    apart = case.core_lps.mean(axis=0)[0] - case.mirror_lps.mean(axis=0)[0]
    assert (apart < -20) if case.right else (apart > 20)


def test_the_volume_is_darker_there(case: Case) -> None:
    volume = convert_series(case.files)
    to_index = np.asarray(np.linalg.inv(volume.voxel_to_lps), np.float64)
    assert mean_at(volume.hu, to_index, case.mirror_lps) - mean_at(volume.hu, to_index, case.core_lps) > 3


def test_the_aligned_head_is_darker_there(case: Case) -> None:
    """Network voxels: i grows to the patient's left."""
    image: Any = nibabel.load(case.folder / "aligned.nii.gz")
    hu = np.asarray(image.dataobj)
    assert case.result.lps_to_voxel is not None
    assert mean_at(hu, case.result.lps_to_voxel, case.mirror_lps) - mean_at(hu, case.result.lps_to_voxel, case.core_lps) > 3
    i = apply(case.result.lps_to_voxel, case.core_lps)[:, 0].mean()
    assert (i < 60) if case.right else (i > 84)


def test_the_map_lies_there(case: Case) -> None:
    image: Any = nibabel.load(case.folder / "core_map.nii.gz")
    core = np.asarray(image.dataobj) > CORE_MAP_THRESHOLD
    assert core.any()
    half = core[:73] if case.right else core[73:]
    assert half.sum() == core.sum()
    x = centroid(core, image.affine)[0]  # RAS: x grows to the patient's right
    assert (x > 15) if case.right else (x < -15)


def test_the_answer_names_that_side(case: Case) -> None:
    said = json.loads((case.folder / "result.json").read_text())
    assert said["side"] == str(case.side)
    assert said["alert"] is True
    to_voxel, back = (np.array(said["alignment"][name]) for name in ("matrix_lps_mm_to_voxel", "matrix_voxel_to_lps_mm"))
    np.testing.assert_allclose(to_voxel @ back, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(apply(to_voxel, case.core_lps), apply(case.truth.lps_to_network, case.core_lps), atol=4)


def test_the_map_on_the_scanners_grid_lies_there(case: Case) -> None:
    image: Any = nibabel.load(case.folder / "core_map_native.nii.gz")
    middle = centroid(np.asarray(image.dataobj) > CORE_MAP_THRESHOLD, LPS_TO_RAS @ image.affine)
    near, far = (np.linalg.norm(points.mean(axis=0) - middle) for points in (case.core_lps, case.mirror_lps))
    assert near < 25 < far


def test_the_picture_shows_it_on_the_other_hand(case: Case) -> None:
    """Radiological convention: the patient's right on the picture's left."""
    hu, core = (np.asarray(nibabel.load(case.folder / name).dataobj) for name in ("aligned.nii.gz", "core_map.nii.gz"))
    pixels = axial(hu, core, int(core_areas(core).argmax()), 2.0)
    columns = np.nonzero((pixels == CONTOUR).all(axis=2))[1] / pixels.shape[1]
    assert columns.size > 10
    assert (columns < 0.5).all() if case.right else (columns > 0.5).all()


def test_how_it_was_aligned_is_drawn(case: Case) -> None:
    assert case.result.files["qc"] == "qc.png"
    with Image.open(case.folder / "qc.png") as page:
        assert page.size[0] > 1400
    sidecar = json.loads((case.folder / case.result.files["aligned_sidecar"]).read_text())
    np.testing.assert_array_equal(sidecar["Alignment"]["matrix_lps_mm_to_voxel"], np.asarray(case.result.lps_to_voxel))


def slices_below(files: Sequence[Path], folder: Path, count: int) -> Path:
    folder.mkdir()
    for path in files[:count]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_head_that_is_refused_is_drawn_too_and_nothing_of_the_last_case_is_left(case: Case, tmp_path: Path) -> None:
    """The lower two thirds of a head: the page shows why, and volumes of an earlier run are gone."""
    ordered = sorted(case.truth.files, reverse=case.side is Side.LEFT)
    for name in ("aligned.nii.gz", "core_map.nii.gz", "core_map_native.nii.gz"):
        (tmp_path / name).write_bytes((case.folder / name).read_bytes())
    result = run_case(slices_below(ordered, tmp_path / "in", 62), tmp_path, SETTINGS, qc=True)
    assert result.state is CaseState.NOT_ANALYSED
    assert set(result.files) <= {"summary", "dicom", "result", "qc"}
    assert not list(tmp_path.glob("*.nii.gz"))
    assert result.files["qc"] == "qc.png"


def test_what_is_analysed_is_never_removed(case: Case) -> None:
    """The aligned head in a results folder is analysed again, into the same folder."""
    again = run_case(case.folder / "aligned.nii.gz", case.folder, SETTINGS)
    assert again.state is CaseState.DELIVERED
    assert again.finding is not None
    assert again.finding.side is case.side
    assert "qc" not in again.files
