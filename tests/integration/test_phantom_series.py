from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.ndimage import affine_transform, binary_erosion

from corewatch.findings import Side
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS, apply
from phantom.dicom_series import write_series
from phantom.head import HEAD_SHAPE, Blueprint, HeadSpec, PhantomHead, make_head

pytestmark = pytest.mark.slow

SPEC = HeadSpec(7, 60.0, Side.RIGHT)


@pytest.fixture(scope="module")
def head() -> PhantomHead:
    return make_head(SPEC)


def test_head_is_complete_and_keeps_its_truth(head: PhantomHead) -> None:
    assert head.hu.dtype == np.int16
    assert head.hu.shape == head.core_mask.shape == HEAD_SHAPE
    assert (head.core_ml, head.side) == (60.0, Side.RIGHT)
    ras = apply(head.voxel_to_ras, np.argwhere(head.core_mask))
    assert (ras[:, 0] > 0).all()  # the patient's right
    assert (head.hu[:, :, -1] == -1000).all()
    assert (head.hu[:, -1] == -1000).all()
    neck = head.hu[:, :, 60]
    assert (neck > 400).any()  # vertebra
    assert (neck[96 - 25 : 96 + 26, 120:170] < -900).any()  # airway


def test_head_depends_on_its_spec_alone(head: PhantomHead) -> None:
    assert np.array_equal(make_head(SPEC).hu, head.hu)


def test_truth_takes_a_written_series_back_to_the_aligned_head(head: PhantomHead, tmp_path: Path) -> None:
    truth = write_series(head, tmp_path, slices=200, matrix=256, seed=3)
    volume = np.stack([pydicom.dcmread(f).pixel_array.T.astype(np.float32) - 1024 for f in truth.files], axis=2)
    painted, core = Blueprint.of(SPEC).on_grid(NETWORK_SHAPE, NETWORK_TO_RAS)
    matrix = np.linalg.inv(truth.voxel_to_lps) @ np.linalg.inv(truth.lps_to_network)
    back = affine_transform(volume, matrix[:3, :3], matrix[:3, 3], output_shape=NETWORK_SHAPE, order=1, cval=-1000)
    clipped = [np.clip(v, 0, 100) for v in (back, painted)]
    here = np.corrcoef(clipped[0].ravel(), clipped[1].ravel())[0, 1]
    assert here > 0.9
    # one millimetre to any side fits worse
    for axis in range(3):
        for shift in (-1, 1):
            assert np.corrcoef(np.roll(clipped[0], shift, axis).ravel(), clipped[1].ravel())[0, 1] < here - 0.005
    inner = binary_erosion((painted > 20) & (painted < 55), iterations=3)
    assert (back - painted)[inner].mean() == pytest.approx(0, abs=0.3)
    assert 2.5 < (back - painted)[inner].std() < 7.0
    assert back[core & inner].mean() < back[core[::-1] & inner].mean() - 3
