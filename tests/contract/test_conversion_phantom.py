"""The phantom's series come back as they were made: same grid, same values in every encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from conversion.convert import convert_series
from phantom.dicom_series import write_series
from phantom.head import HeadSpec, PhantomHead, make_head


@pytest.fixture(scope="module")
def head() -> PhantomHead:
    return make_head(HeadSpec(seed=1))


@pytest.mark.slow
def test_grid_and_values_do_not_depend_on_order_or_encoding(head: PhantomHead, tmp_path: Path) -> None:
    volumes = []
    for n, (syntax, descending) in enumerate(
        [(ExplicitVRLittleEndian, False), (RLELossless, True), (JPEGLSLossless, False), (JPEG2000Lossless, True)]
    ):
        truth = write_series(
            head, tmp_path / str(n), slices=30, coverage_mm=180.0, matrix=96, seed=3, syntax=syntax, descending=descending
        )
        volume = convert_series(truth.files)
        np.testing.assert_allclose(volume.voxel_to_lps, truth.voxel_to_lps, atol=1e-4)
        assert volume.hu.shape == (96, 96, 30)
        volumes.append(volume.hu)
    for other in volumes[1:]:
        np.testing.assert_array_equal(other, volumes[0])
