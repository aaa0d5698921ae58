"""How well the measures of an aligned head find blood, missing contrast medium, noise and a shifted HU level.

    python -m benchmarks.cautions

Heads are phantoms with and without contrast medium, and, where they are beside the checkout, the published patient and the mean CT
of 30 adults. Bleeds of 2 to 60 mL are drawn into them. The tables in `docs/cautions.md` come from here.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

from benchmarks.alignment import SHARED
from conversion.alignment import template_edge
from conversion.image_checks import measure_head
from corewatch.cautions import CautionCode
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS, apply
from corewatch.image_measures import image_cautions
from corewatch.volumes import AlignedHead
from phantom.head import Blueprint, HeadSpec

Values = NDArray[np.float32]
"""HU on the network's grid, not clipped where the source is not."""

SITES = {
    "basal ganglia": (28, 0, 5),
    "parietal lobe": (-40, -30, 30),
    "thalamus": (13, -18, 8),
    "frontal lobe": (-25, 35, 20),
    "cerebellum": (20, -60, -28),
}
VOLUMES_ML = (2, 5, 10, 20, 60)
DENSITIES_HU = (60, 75)
_MEAN_CT_SHIFT_HU = 13.0
"""The mean CT was turned back from another scale; brain and ventricles lie this much too high."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=4)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    places = apply(NETWORK_TO_RAS, np.moveaxis(np.indices(NETWORK_SHAPE), 0, -1)).astype(np.float32)
    hull = template_edge()
    depth = map_coordinates(
        hull.depth_mm, np.moveaxis(apply(hull.network_to_index, np.moveaxis(np.indices(NETWORK_SHAPE), 0, -1)), -1, 0), order=1
    )
    found: defaultdict[tuple[str, str, int], list[bool]] = defaultdict(list)
    cautions: defaultdict[tuple[str, CautionCode], int] = defaultdict(int)
    copies: defaultdict[str, int] = defaultdict(int)
    for kind, name, head in heads(options.phantoms):
        for noise_sd, blur in ((0, 0.0), (4, 0.0), (8, 0.0), (12, 0.0), (4, 0.8)):
            copies[kind] += 1
            values = gaussian_filter(np.clip(head, -200, 500), blur) if blur else head
            measures = measured(values + noise(rng, noise_sd))
            print(f"{name:24} noise {noise_sd:2} blur {blur:.1f}: {measures}", flush=True)
            for caution in image_cautions(measures):
                cautions[kind, caution.code] += 1
        for volume_ml in VOLUMES_ML:
            for density in DENSITIES_HU:
                for bleed, drawn in bleeds(head, places, depth, volume_ml, density):
                    has = any(c.code is CautionCode.DENSE_REGION for c in image_cautions(measured(drawn + noise(rng, 5))))
                    found[bleed, kind, volume_ml].append(has)
    print("\nbleeds found:")
    for (bleed, kind, volume_ml), hits in sorted(found.items()):
        print(f"{bleed:14} {kind:24} {volume_ml:3} mL  {sum(hits)} of {len(hits)}")
    print("\ncautions without a bleed:")
    for (kind, code), count in sorted(cautions.items()):
        print(f"{kind:24} {code:20} {count} of {copies[kind]}")


def heads(phantoms: int) -> Iterator[tuple[str, str, Values]]:
    """Kind, name and values of every head."""
    for seed in range(1, phantoms + 1):
        for enhanced in (True, False):
            blueprint = Blueprint.of(HeadSpec(seed))
            if not enhanced:
                variation = blueprint.variation
                object.__setattr__(variation, "densities", replace(variation.densities, artery=45.0, vein=48.0))
            hu, _ = blueprint.on_grid(NETWORK_SHAPE, NETWORK_TO_RAS)
            kind = "phantom, contrast" if enhanced else "phantom, native"
            yield kind, f"{kind} {seed}", gaussian_filter(hu, 0.45, truncate=3.0).astype(np.float32)
    patient = SHARED / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz"
    if patient.exists():
        image: Any = nib.load(patient)
        yield "published patient", "published patient", image.get_fdata(dtype=np.float32)
    mean_ct = SHARED / "reference" / "template" / "mean_ct_head_30_adults_hu.nii.gz"
    if mean_ct.exists():
        image = nib.load(mean_ct)
        matrix = np.linalg.inv(image.affine) @ NETWORK_TO_RAS
        values = affine_transform(image.get_fdata(dtype=np.float32), matrix, output_shape=NETWORK_SHAPE, order=1, cval=-1000)
        yield "mean CT, native", "mean CT, native", (values - _MEAN_CT_SHIFT_HU).astype(np.float32)


def measured(values: Values) -> Any:
    """The measures of a head on the network's grid."""
    return measure_head(AlignedHead(np.rint(np.clip(values, 0, 100)).astype(np.uint8), None, None))


def noise(rng: np.random.Generator, sd: float) -> Values:
    """Noise as a soft kernel leaves it after resampling to 1 mm."""
    field = gaussian_filter(rng.standard_normal(NETWORK_SHAPE, np.float32), (0.58, 0.58, 0.48))
    return field * np.float32(sd / field.std())


def bleeds(head: Values, places: Values, depth: Values, volume_ml: float, density: float) -> Iterator[tuple[str, Values]]:
    """The head with a bleed: an ellipsoid at each site that is large enough for it, and a layer below the skull's inner table."""
    for name, centre in SITES.items():
        if volume_ml > 20 and name in {"thalamus", "cerebellum"}:
            continue
        radii = (volume_ml * 750 / np.pi) ** (1 / 3) * np.array((1.0, 1.25, 0.8))
        distance = np.sqrt(np.square((places - np.float32(centre)) / radii.astype(np.float32)).sum(axis=-1))
        yield "intracerebral", blended(head, np.clip((1 - distance) * radii.mean() / 1.5 + 0.5, 0, 1), density)
    thickness = 3 + 1.1 * volume_ml**0.5
    below = depth + 2.0
    layer = (below < 0) & (below > -thickness)
    away = np.sqrt(np.square(places - np.float32((60.0, -10.0, 25.0))).sum(axis=-1))
    reach = np.sort(away[layer])[min(round(volume_ml * 1000), np.count_nonzero(layer) - 1)]
    weight = np.clip(np.minimum(np.minimum(-below, below + thickness), (reach - away) * 0.5) + 0.5, 0, 1)
    yield "subdural", blended(head, np.where(head > 150, 0, weight), density)


def blended(head: Values, weight: NDArray[Any], density: float) -> Values:
    """The head with `density` where `weight` is 1."""
    return np.asarray(head + (density - head) * weight, np.float32)


if __name__ == "__main__":
    main()
