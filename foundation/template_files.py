"""Files of the ICBM 2009a nonlinear symmetric brain template, which corewatch carries as data (`foundation/icbm2009a/LICENSE`)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

_FOLDER: Final = Path(__file__).parent / "icbm2009a"

Kind = Literal["t1", "gm", "wm"]


def template_file(kind: Kind) -> Path:
    """NIfTI file of the T1 average of the brain, or of the probability of grey or white matter; uint8, 1 mm, RAS."""
    return _FOLDER / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
