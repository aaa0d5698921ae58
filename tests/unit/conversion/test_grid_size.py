"""The grid that slices are laid onto."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from conversion.series_checks import check_series
from conversion.volume_grid import check_grid, plan_grid
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from corewatch.reasons import Reason
from tests.support_conversion import AXIAL


@pytest.mark.parametrize(("sideways_mm", "close"), [(100.0, 0), (0.0, 40)])
def test_a_grid_out_of_all_proportion_is_refused_before_memory_is_asked_for(sideways_mm: float, close: int) -> None:
    """Positions that drift to the side, and some that lie very close to each other: both pass as a tilt and as a block."""
    zs = np.cumsum([0.02 if n < close else 3.0 for n in range(130)]) if close else np.arange(400) * 0.02
    slices = [
        Instance(
            f"1.2.{n}",
            CTImageStorage,
            ExplicitVRLittleEndian,
            "1.2.3",
            "1.2",
            modality="CT",
            rows=1024,
            columns=1024,
            position_lps=(n * sideways_mm, 0.0, float(z)),
            orientation=AXIAL,
            pixel_spacing_mm=(0.25, 0.25),
        )
        for n, z in enumerate(zs)
    ]
    assert check_series(slices) == []
    with pytest.raises(NotAnalysed, match="regular grid") as caught:
        check_grid(plan_grid(slices))
    assert caught.value.reason is Reason.IRREGULAR_GEOMETRY
