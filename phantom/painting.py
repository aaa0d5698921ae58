"""From the smooth fields of one phantom to Hounsfield units: brain, skull, scalp, face and neck, without vessels and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from phantom.infarct import Infarct
from phantom.shapes import Array, Field
from phantom.skull_and_neck import AIR_HU, SKIN_HU, surroundings
from phantom.tissue_maps import TEMPLATE_ORIGIN, tissue_maps
from phantom.variation import Pulled, Variation

_FALX_HU = 62.0


@dataclass(frozen=True, slots=True, eq=False)
class Brain:
    """Probability (0 to 1) of grey matter, and of grey and white together, on a phantom's grid; float32."""

    grey: Array
    tissue: Array


def brain_of(variation: Variation, pulled: Pulled, below: Array) -> Brain:
    """The template's tissues at the points of a phantom's grid; `below` as from `below_skull`."""
    maps = tissue_maps()
    within = below < 1.0
    points = pulled.template[:, within]
    grey_there = Field(maps.grey, TEMPLATE_ORIGIN).at(points) / np.float32(255)
    white_there = Field(maps.white, TEMPLATE_ORIGIN).at(points) / np.float32(255)
    grey, tissue = np.zeros_like(below), np.zeros_like(below)
    grey[within] = grey_there
    # the template is a mean of many brains: sharpen its sulci, or every cortex looks washed out
    tissue[within] = np.clip(
        (grey_there + white_there - np.float32(0.5 + variation.atrophy)) * np.float32(1.6) + np.float32(0.5), 0, 1
    )
    return Brain(grey, tissue)


def below_skull(variation: Variation, pulled: Pulled) -> Array:
    """Distance (mm of this head) from the inner surface of the skull, positive in bone and beyond, negative in the cavity."""
    below = surroundings().cavity.at(pulled.template)
    below *= np.float32(variation.scale.mean())
    below -= np.float32(variation.rim_mm)
    return below


def paint(
    variation: Variation,
    pulled: Pulled,
    below: Array,
    brain: Brain | None,
    core: NDArray[np.bool_] | None,
    infarct: Infarct | None,
) -> Array:
    """HU on the phantom's grid, float32.

    Parameters
    ----------
    below
        As from `below_skull`.
    brain
        None for grids below the brain.
    core, infarct
        The voxels of the ischemic core and how it looks; None for a head without.
    """
    fields, d = surroundings(), variation.densities
    skin, hu = np.full_like(below, 50.0), np.full_like(below, AIR_HU)
    outside = (below > -1.0) & (pulled.template[2] < fields.face_hu.top)
    skin[outside] = fields.face.at(pulled.template[:, outside])
    face = skin < 1.5
    hu[face] = fields.face_hu.at(pulled.template[:, face])

    depth_of_scalp = below - pulled.thickness_mm
    vault = (skin > -3.0) & (depth_of_scalp < variation.scalp_mm + 0.5) & (pulled.template[2] > -66)
    outer = np.float32(variation.scalp_mm) - depth_of_scalp[vault]  # depth below the skin of the vault
    layer = np.where(outer < 1.7, np.float32(SKIN_HU), np.float32(d.scalp_fat))
    layer = np.where(depth_of_scalp[vault] < 1.6, np.float32(SKIN_HU), layer)
    cover = np.clip(outer + 0.5, 0, 1)
    hu[vault] += cover * (np.maximum(layer, hu[vault]) - hu[vault])

    _paint_skull(hu, below, pulled, variation, skin)
    inside = np.clip(np.float32(0.5) - below, 0, 1)
    region = inside > 0
    content = np.full(int(np.count_nonzero(region)), d.fluid, np.float32)
    if brain is not None:
        content = _brain_hu(brain, region, core, infarct, variation)
        midline = np.abs(pulled.template[0][region]) < 0.9
        falx = midline & (brain.tissue[region] < 0.75) & (pulled.template[2][region] > 12) & (below[region] > -38)
        content[falx] = np.maximum(content[falx], _FALX_HU)
    cord = (pulled.template[2][region] < -68) & (below[region] < -3.2 - variation.rim_mm)
    content[cord] = d.grey - 4
    content += pulled.shade_hu[region]
    hu[region] += inside[region] * (content - hu[region])
    return hu


def _paint_skull(hu: Array, below: Array, pulled: Pulled, variation: Variation, skin: Array) -> None:
    """Two tables of dense bone with diploe between; air cells of the skull base stay open."""
    band = (below > -0.5) & (below < pulled.thickness_mm + 0.5) & (pulled.thickness_mm > 0.8)
    depth, thickness = below[band], pulled.thickness_mm[band]
    open_air = (hu[band] < -400) & (skin[band] < -4) & (depth > 1.5)
    edge = np.minimum(depth, thickness - depth)
    diploe = np.clip((edge - 1.3) / 1.2, 0, 1) * np.float32(0.5)
    bone = np.float32(variation.densities.bone) * (1 - diploe)
    cover = np.clip(edge + 0.5, 0, 1) * ~open_air
    hu[band] += cover * (np.maximum(bone, hu[band]) - hu[band])


def _brain_hu(
    brain: Brain, region: NDArray[np.bool_], core: NDArray[np.bool_] | None, infarct: Infarct | None, variation: Variation
) -> Array:
    d = variation.densities
    tissue, grey = brain.tissue[region], brain.grey[region]
    share = np.clip(grey / np.maximum(tissue, np.float32(0.05)), 0, 1)
    parenchyma = d.white + share * np.float32(d.grey - d.white)
    if core is not None and infarct is not None:
        weight = gaussian_filter(core.astype(np.float32), 1.4)[region]
        lost = (d.grey + d.white) / 2 - infarct.depth_hu
        infarcted = parenchyma + np.float32(infarct.levelling) * ((d.grey + d.white) / 2 - parenchyma) - infarct.depth_hu
        parenchyma = parenchyma + weight * (np.maximum(infarcted, lost - 4) - parenchyma)
    return np.asarray(d.fluid + tissue * (parenchyma - d.fluid), np.float32)
