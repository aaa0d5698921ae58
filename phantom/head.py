"""The synthetic head: what it is made to be (`HeadSpec`) and the volume with its ground truth (`PhantomHead`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corewatch.findings import Side
from corewatch.geometry import Matrix
from phantom.infarct import CORE_ML_RANGE, Infarct, core_mask, draw_infarct
from phantom.painting import Brain, below_skull, brain_of, paint
from phantom.shapes import Array
from phantom.skull_and_neck import LOWER
from phantom.variation import Variation, pull
from phantom.vessels import Centrelines, grow, stamp

HEAD_SHAPE: Final = (193, 269, 329)
"""Voxels of a phantom head along R, A, S; 1 mm each."""

HEAD_TO_RAS: Final[Matrix] = np.array([[1, 0, 0, LOWER[0]], [0, 1, 0, LOWER[1]], [0, 0, 1, LOWER[2]], [0, 0, 0, 1]], float)
"""Voxel -> RAS mm of the ICBM 2009a template: the right alignment of a phantom is the identity in this frame."""
HEAD_TO_RAS.setflags(write=False)

_BRAIN_BOTTOM = -84.0


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a phantom head is to be; the same spec always gives the same head.

    Attributes
    ----------
    seed
        Chooses anatomy, densities, vessels and the place of the core; not negative.
    core_ml
        Volume of the ischemic core in mL: 0, or within `CORE_ML_RANGE`.
    side
        Side of the core and of the occluded middle cerebral artery; `Side.NONE` exactly where `core_ml` is 0.
    """

    seed: int
    core_ml: float = 0.0
    side: Side = Side.NONE

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError("the seed of a phantom is not negative")
        if (self.core_ml > 0) != (self.side is not Side.NONE):
            raise ValueError("a phantom has a core exactly where it has a side")
        if self.core_ml and not CORE_ML_RANGE[0] <= self.core_ml <= CORE_ML_RANGE[1]:
            raise ValueError(f"a core has {CORE_ML_RANGE[0]:g} to {CORE_ML_RANGE[1]:g} mL, not {self.core_ml:g}")


@dataclass(frozen=True, slots=True, eq=False)
class PhantomHead:
    """A head with its ground truth.

    Attributes
    ----------
    hu
        int16, `HEAD_SHAPE`, axes R-A-S, 1 mm, free of noise; air is -1000.
    voxel_to_ras
        Voxel -> RAS mm of the ICBM 2009a template.
    core_mask
        bool, shape of `hu`: the ischemic core.
    core_ml
        Volume of `core_mask` in mL.
    """

    spec: HeadSpec
    hu: NDArray[np.int16]
    voxel_to_ras: Matrix
    core_mask: NDArray[np.bool_]
    core_ml: float

    @property
    def side(self) -> Side:
        """Side of the core."""
        return self.spec.side


@dataclass(frozen=True, slots=True, eq=False)
class Blueprint:
    """Everything random about a head, drawn once: it can be painted on any grid."""

    spec: HeadSpec
    variation: Variation
    vessels: Centrelines
    infarct: Infarct | None

    @classmethod
    def of(cls, spec: HeadSpec) -> Blueprint:
        """Draw the blueprint of a spec."""
        infarct = None if spec.side is Side.NONE else draw_infarct(spec.seed, spec.side)
        return cls(spec, Variation(spec.seed), grow(spec.seed, spec.side, spec.core_ml), infarct)

    def on_grid(
        self, shape: tuple[int, int, int], voxel_to_ras: Matrix, with_brain: bool = True
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Paint on a grid of 1 mm voxels: HU (float32, without noise) and the core, both of `shape`.

        `with_brain=False` is for grids that lie wholly below the brain.
        """
        pulled = pull(self.variation, shape, voxel_to_ras)
        below = below_skull(self.variation, pulled)
        core = np.zeros(shape, bool)
        brain: Brain | None = None
        if with_brain:
            brain = brain_of(self.variation, pulled, below)
            if self.infarct is not None:
                voxels = round(self.spec.core_ml * 1000)
                core = core_mask(self.infarct, voxels, pulled.template, brain.tissue, pulled.speckle)
        hu = paint(self.variation, pulled, below, brain, core if self.infarct is not None else None, self.infarct)
        densities = self.variation.densities
        hu += stamp(self.vessels, self.variation.from_template, shape, voxel_to_ras, densities.artery, densities.vein)
        return hu, core


def make_head(spec: HeadSpec) -> PhantomHead:
    """Make the head of a spec: head and neck down to the shoulders, about 19 million voxels, in some seconds."""
    blueprint = Blueprint.of(spec)
    hu = np.empty(HEAD_SHAPE, np.int16)
    core = np.zeros(HEAD_SHAPE, bool)
    cut = int(_BRAIN_BOTTOM - LOWER[2])

    def fill(start: int, stop: int) -> None:
        matrix = HEAD_TO_RAS.copy()
        matrix[2, 3] += start
        part, core[:, :, start:stop] = blueprint.on_grid((*HEAD_SHAPE[:2], stop - start), matrix, with_brain=stop > cut)
        hu[:, :, start:stop] = np.rint(np.clip(part, -1000, 3000))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, (0, cut), (cut, HEAD_SHAPE[2])))
    return PhantomHead(spec, hu, HEAD_TO_RAS, core, float(np.count_nonzero(core)) / 1000)
