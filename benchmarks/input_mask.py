"""What skull, scalp, head holder and ears do to a model's answer, with its input mask and without.

    python -m benchmarks.input_mask --models-dir DIR --model deepsymnet-core

Around the published patient and synthetic heads, skull and scalp of 4 to 14 mm, a head holder and ears are drawn; the model answers
for each head as it is and cut off at several distances from the brain. The table in `docs/models.md` comes from here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from benchmarks.alignment import SHARED
from corewatch.findings import Side
from corewatch.geometry import NETWORK_SHAPE
from phantom.head import HeadSpec
from phantom.training import aligned_sample
from worker.models.adapters import ADAPTERS
from worker.models.input_mask import cut, is_masked
from worker.models.manifest import InputMask
from worker.models.registry import find_model

Head = NDArray[np.uint8]
PATIENT = SHARED / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz"
BONE_HU, SCALP_HU, HOLDER_HU = 100, 45, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--model", default="deepsymnet-core")
    parser.add_argument("--distances", type=float, nargs="*", default=[1.0, 1.5, 2.0, 3.0])
    options = parser.parse_args()
    folder, manifest = find_model(options.model, options.models_dir)
    network = ADAPTERS[manifest.adapter].load(folder / manifest.weights, "cpu")
    for name, head in heads():
        print(f"{name}: masked before: {is_masked(head)}")
        shown = {"as it is": head, **dict(surroundings(head))}
        print(f"  {'':22}" + "".join(f"{what:>24}" for what in shown))
        for mask in (None, *(InputMask(beyond_brain_mm=mm) for mm in options.distances)):
            cuts = [one if mask is None else cut(one, mask) for one in shown.values()]
            row = "whole" if mask is None else f"brain + {mask.beyond_brain_mm:g} mm"
            print(f"  {row:22}" + "".join(f"{ml:24.2f}" for ml in network.core_volumes(cuts)), flush=True)


def heads() -> Iterator[tuple[str, Head]]:
    """The published patient, where it lies beside the checkout, and three synthetic heads."""
    if PATIENT.exists():
        yield "published patient", np.asarray(nib.load(PATIENT).dataobj, np.uint8)
    for seed, core_ml, side in ((0, 0.0, Side.NONE), (1, 80.0, Side.LEFT), (2, 40.0, Side.RIGHT)):
        yield f"phantom {seed}, {core_ml:g} mL", aligned_sample(seed, HeadSpec(seed, core_ml, side), residual=0.0).hu


def surroundings(head: Head) -> Iterator[tuple[str, Head]]:
    """The head with skull and scalp drawn around it, on a holder, and with ears."""
    for thickness_mm in (4.0, 8.0, 14.0):
        yield f"skull, scalp {thickness_mm:g} mm", thickened(head, thickness_mm)
    dressed = thickened(head, 8.0)
    yield "8 mm, holder", on_holder(dressed)
    yield "8 mm, holder, ears", with_ears(on_holder(dressed))


def thickened(head: Head, thickness_mm: float) -> Head:
    """Half bone, half scalp of together `thickness_mm` around what the head shows."""
    beyond = distance_transform_edt(~binary_fill_holes(head > 0))
    dressed = head.copy()
    dressed[(beyond > 0) & (beyond <= thickness_mm / 2)] = BONE_HU
    dressed[(beyond > thickness_mm / 2) & (beyond <= thickness_mm)] = SCALP_HU
    return dressed


def on_holder(head: Head) -> Head:
    """A trough of 5 mm along the back of the head, on one side higher than on the other."""
    beyond = distance_transform_edt(~binary_fill_holes(head > 0))
    left, anterior, _ = np.indices(NETWORK_SHAPE)
    dressed = head.copy()
    dressed[(beyond > 2) & (beyond <= 7) & (anterior < 70 + left // 4)] = HOLDER_HU
    return dressed


def with_ears(head: Head) -> Head:
    """Ears of 6 mm to both sides of the skull base, the left one folded."""
    beyond = distance_transform_edt(~binary_fill_holes(head > 0))
    left, anterior, superior = np.indices(NETWORK_SHAPE)
    place = (np.abs(anterior - 80) < 18) & (np.abs(superior - 12) < 26)
    dressed = head.copy()
    dressed[(beyond > 0) & (beyond <= np.where(left > 72, 3, 6)) & place] = SCALP_HU
    return dressed


if __name__ == "__main__":
    main()
