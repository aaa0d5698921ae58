"""What surrounds the brain, the same in every phantom: the cavity of the skull, face, skull base and neck.

Everything is drawn in the frame of the ICBM 2009a template (RAS mm), symmetric about x = 0, from proportions that a CT of the
head has there. It hints at anatomy: enough for front, back, up and down to differ as they do in a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom

from phantom.shapes import Array, Canvas, Field, Point, cylinder, ellipsoid, grid, smooth_minimum, tube, union
from phantom.tissue_maps import TEMPLATE_ORIGIN, tissue_maps

AIR_HU: Final = -1000.0
SKIN_HU: Final = 35.0
FAT_HU: Final = -90.0
MUSCLE_HU: Final = 55.0
BONE_HU: Final = 950.0
PETROUS_HU: Final = 1700.0
TOOTH_HU: Final = 2300.0
FLUID_HU: Final = 10.0

LOWER: Final[Point] = (-96.0, -146.0, -220.0)
UPPER: Final[Point] = (96.0, 122.0, 108.0)
"""Corners of the space (RAS mm) in which a head and its neck fit, before variation."""

_FACE_TOP = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """The fields that a phantom is painted from, template RAS mm.

    Attributes
    ----------
    cavity
        Signed distance (mm) to the surface of the brain and its fissures, brainstem and spinal cord: negative inside.
    face
        Signed distance (mm) to the skin of face, jaw, ears and neck (not of the vault): negative inside.
    face_hu
        HU of face and neck, -1000 outside of them; 1 mm.
    """

    cavity: Field
    face: Field
    face_hu: Field


def _cavity() -> Field:
    """Close the fissures of the template's brain by 14 mm, smooth it, and lead the cord down through the neck."""
    step = 2
    brain = tissue_maps().brain[::step, ::step, ::step]
    pad = 12
    brain = np.pad(brain, pad)
    brain[:, :, :pad] |= brain[:, :, pad : pad + 1]  # the template is cut off at the medulla
    closed = distance_transform_edt(distance_transform_edt(~brain) < 7.0) >= 7.0
    closed |= brain
    signed = distance_transform_edt(~closed) - distance_transform_edt(closed)
    signed = gaussian_filter((signed * step).astype(np.float32), 1.2)
    x0, y0, z0 = TEMPLATE_ORIGIN
    brain_part = Field(signed, (x0 - pad * step, y0 - pad * step, z0 - pad * step), step)

    cistern = ellipsoid((0, -3, -21), (16, 15, 11))
    cord = tube([(0, -46, -62), (0, -52, -80), (0, -56, -120), (0, -52, -230)], 7.5)
    x, y, z = np.broadcast_arrays(*grid(LOWER, UPPER, step))
    values = brain_part.at(np.stack([x, y, np.maximum(z, -66)]).astype(np.float32)) + np.maximum(-66 - z, 0)
    values = np.minimum(smooth_minimum(values, cistern(x, y, z), 4.0), cord(x, y, z))
    return Field(values.astype(np.float32), LOWER, step)


def _face() -> Field:
    body = union(
        ellipsoid((0, 20, -58), (69, 66, 74)),
        ellipsoid((0, 30, -104), (52, 52, 36)),
        ellipsoid((0, 86, -66), (14, 19, 20)),
        ellipsoid((0, -44, -58), (71, 58, 42)),
        cylinder((0, -46), (58, 60), -30, lean=-0.05),
        blend_mm=16,
    )
    ear = ellipsoid((0, -24, -40), (6, 15, 26))
    shoulders = ellipsoid((0, -48, -262), (170, 85, 70))
    return Field.sample(
        lambda x, y, z: np.minimum(union(body, shoulders, blend_mm=40)(x, y, z), ear(np.abs(x) - 78.5 + 0.25 * (y + 24), y, z)),
        LOWER,
        UPPER,
        2.0,
    )


def _tissue(face: Field) -> Canvas:
    """Skin, fat below it, then muscle with planes of fat."""
    top = (UPPER[0], UPPER[1], _FACE_TOP)
    x, y, z = np.broadcast_arrays(*grid(LOWER, top))
    shape = tuple(int(b - a) + 1 for a, b in zip(LOWER, top, strict=True))
    coarse = gaussian_filter(np.random.default_rng(5).standard_normal([n // 3 + 2 for n in shape]), 2.0)
    coarse = coarse + coarse[::-1]
    planes = zoom(coarse.astype(np.float32), [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1)
    depth = -face.at(np.stack([x, y, z]))
    muscle = np.clip((depth - 5.5) * 0.7, 0, 1) * np.clip(0.5 + (planes / planes.std() + 0.9) * 4, 0, 1)
    skin = np.clip(2.2 - depth, 0, 1)
    hu = FAT_HU + muscle * (MUSCLE_HU - FAT_HU)
    hu += skin * (SKIN_HU - hu)
    hu += np.clip(0.5 - depth, 0, 1) * (AIR_HU - hu)
    return Canvas(hu.astype(np.float32), LOWER)


def _draw_orbits_and_sinuses(c: Canvas) -> None:
    # orbit: a wall of bone around a cone of fat, with globe, lens and optic nerve
    cone = union(ellipsoid((31, 56, -38), (18, 16, 17)), tube([(31, 52, -38), (16, 22, -30)], 9), blend_mm=12)
    c.draw(lambda x, y, z: np.maximum(cone(x, y, z) - 2.5, y - 60), (2, 8, -62), (54, 64, -14), BONE_HU, mirrored=True)
    c.draw(lambda x, y, z: np.maximum(cone(x, y, z), y - 66), (2, 8, -60), (54, 68, -16), FAT_HU, mirrored=True)
    c.draw(tube([(30, 50, -38), (13, 20, -29)], 2.4), (8, 14, -44), (36, 56, -24), 38, mirrored=True)
    for start, end in (
        ((40, 58, -38), (18, 24, -31)),
        ((22, 58, -38), (14, 24, -31)),
        ((31, 56, -28), (16, 24, -28)),
        ((31, 56, -48), (16, 24, -33)),
    ):
        c.draw(tube([start, end], 1.8), (8, 18, -56), (48, 62, -22), MUSCLE_HU, mirrored=True)
    c.draw(ellipsoid((31, 64, -38), (12.5, 12.5, 12.5)), (17, 50, -52), (45, 78, -24), 30, mirrored=True)
    c.draw(ellipsoid((31, 64, -38), (11, 11, 11)), (17, 50, -52), (45, 78, -24), FLUID_HU, mirrored=True)
    c.draw(ellipsoid((31, 72.5, -38), (4.5, 2, 4.5)), (25, 68, -44), (37, 76, -32), 85, mirrored=True)

    # maxilla and the air spaces of nose and sinuses
    c.draw(ellipsoid((27, 46, -68), (14.5, 18.5, 16.5)), (10, 24, -88), (44, 68, -48), 700, mirrored=True)
    c.draw(ellipsoid((27, 46, -68), (13, 17, 15)), (10, 24, -88), (44, 68, -48), AIR_HU, mirrored=True)
    c.draw(ellipsoid((0, 14, -38), (15, 14, 12)), (-18, -4, -54), (18, 32, -24), 800)
    c.draw(ellipsoid((6.5, 15, -38), (6, 11, 9)), (0, 2, -50), (14, 28, -26), AIR_HU, mirrored=True)
    c.draw(ellipsoid((0, 48, -36), (14.5, 28, 14)), (-16, 18, -54), (16, 78, -20), 600)
    for y in (28, 36, 44, 52, 60, 67):
        for z in (-44, -35, -27):
            c.draw(ellipsoid((7.5, y, z), (5.5, 3.8, 4.2)), (0, y - 6, z - 6), (15, y + 6, z + 6), AIR_HU, mirrored=True)
    c.draw(ellipsoid((0, 52, -68), (11, 34, 20)), (-14, 14, -90), (14, 90, -46), AIR_HU)
    c.draw(ellipsoid((0, 50, -66), (1.1, 34, 22)), (-4, 14, -90), (4, 86, -44), 250)
    for z, r in ((-76, 4.2), (-64, 3.4), (-55, 2.6)):
        c.draw(tube([(8.5, 28, z), (7.5, 66, z)], r), (2, 22, z - 6), (15, 74, z + 6), 50, mirrored=True)
    c.draw(ellipsoid((9, 77, -8), (10, 5, 9)), (-2, 70, -20), (22, 84, 4), AIR_HU, mirrored=True)


def _draw_bones(c: Canvas) -> None:
    c.draw(
        tube([(47, 52, -50), (60, 38, -54), (68, 12, -54), (64, -8, -50)], 3.6),
        (40, -14, -62),
        (74, 60, -42),
        BONE_HU,
        mirrored=True,
    )
    c.draw(tube([(47, 54, -52), (34, 64, -60), (22, 68, -74)], 4.5), (14, 46, -82), (54, 74, -44), BONE_HU, mirrored=True)
    c.draw(tube([(3, 71, -30), (3.5, 77, -42), (4, 84, -54)], 2.4), (-2, 70, -60), (10, 98, -24), 700, mirrored=True)
    c.draw(tube([(49, 56, -26), (50, 50, -40), (46, 54, -54)], 4.0), (40, 42, -62), (58, 64, -16), BONE_HU, mirrored=True)
    jaw = union(
        tube([(53, -8, -54), (51, -6, -84), (48, 2, -108)], 5.0),
        tube([(48, 2, -108), (33, 48, -120), (12, 68, -124), (0, 71, -124)], 6.0),
    )
    c.draw(jaw, (-4, -18, -134), (62, 80, -46), BONE_HU, mirrored=True)
    for z, hu, r in ((-96, TOOTH_HU, 4.0), (-105, TOOTH_HU, 3.8), (-90, BONE_HU, 5.0), (-113, BONE_HU, 4.5)):
        c.draw(tube([(25, 26, z), (23, 46, z), (12, 64, z), (0, 67, z)], r), (-5, 20, z - 7), (32, 74, z + 7), hu, mirrored=True)
    c.draw(ellipsoid((0, 40, -88), (24, 28, 2.6)), (-26, 10, -92), (26, 70, -84), BONE_HU)
    c.draw(ellipsoid((0, 26, -106), (20, 32, 14)), (-22, -8, -122), (22, 60, -92), MUSCLE_HU + 5)  # tongue
    # clivus, petrous ridges, mastoids with air cells
    c.draw(tube([(0, 2, -36), (0, -14, -46), (0, -26, -60)], 6.5), (-10, -36, -70), (10, 12, -26), 650)
    c.draw(tube([(14, -16, -42), (34, -32, -42), (54, -42, -44)], 8.5), (4, -54, -56), (66, -4, -30), PETROUS_HU, mirrored=True)
    c.draw(ellipsoid((60, -42, -54), (11, 14, 20)), (46, -58, -76), (74, -24, -32), BONE_HU, mirrored=True)
    cells = np.random.default_rng(11).uniform((50, -52, -66), (66, -32, -38), (60, 3))
    for x, y, z in cells.tolist():
        c.draw(ellipsoid((x, y, z), (2.2, 2.2, 2.6)), (x - 4, y - 4, z - 4), (x + 4, y + 4, z + 4), -600, mirrored=True)
    c.draw(tube([(84, -24, -44), (52, -24, -44)], 3.2), (46, -30, -50), (90, -18, -38), AIR_HU, mirrored=True)  # ear canal
    c.draw(ellipsoid((46, -26, -42), (5, 5, 6)), (38, -34, -50), (54, -18, -34), AIR_HU, mirrored=True)


def _draw_neck(c: Canvas) -> None:
    c.draw(tube([(0, -30, -66), (0, -33, -94)], 5.0), (-8, -42, -102), (8, -24, -58), BONE_HU)
    for number, z in enumerate(range(-96, -222, -18)):
        y = -34.0 - 0.05 * (-96 - z)
        c.draw(ellipsoid((0, y, z), (11.5, 9.5, 7.6)), (-14, y - 12, z - 9), (14, y + 12, z + 9), 420)
        c.draw(ellipsoid((0, y, z), (9.8, 7.8, 5.6)), (-14, y - 12, z - 9), (14, y + 12, z + 9), 260)
        arch = tube([(9, y - 4, z), (16, y - 12, z), (14, y - 22, z - 3), (0, y - 33, z - 6)], 3.4)
        c.draw(arch, (-3, y - 40, z - 12), (24, y + 4, z + 6), 650, mirrored=True)
        c.draw(tube([(0, y - 33, z - 6), (0, y - 46 - number % 2 * 5, z - 11)], 3.2), (-6, y - 58, z - 18), (6, y - 28, z), 550)
    for z in (-80,):  # atlas
        ring = tube([(0, -25, z), (14, -30, z), (22, -42, z), (18, -58, z), (0, -68, z)], 4.2)
        c.draw(ring, (-4, -76, z - 7), (30, -18, z + 7), BONE_HU, mirrored=True)
    airway = union(
        tube([(0, 14, -62), (0, 4, -78)], 9), tube([(0, 4, -78), (0, -6, -112), (0, -8, -150), (0, -2, -225)], 8), blend_mm=6
    )
    wall: tuple[Point, Point] = ((-16, -24, -222), (16, 28, -50))
    c.draw(lambda x, y, z: airway(x, y, z) - 2.5, *wall, 60)
    c.draw(airway, *wall, AIR_HU)
    c.draw(ellipsoid((15, -4, -196), (8, 10, 22)), (4, -18, -222), (26, 10, -170), 170, mirrored=True)  # thyroid takes up iodine


@lru_cache(maxsize=1)
def surroundings() -> Surroundings:
    """Build the fields; once per process, some seconds."""
    face = _face()
    canvas = _tissue(face)
    _draw_bones(canvas)
    _draw_orbits_and_sinuses(canvas)
    _draw_neck(canvas)
    hu: Array = canvas.hu
    return Surroundings(_cavity(), face, Field(np.rint(hu).astype(np.int16), canvas.origin))
