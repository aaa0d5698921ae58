"""Slices and pictures of the viewer: windows, orientation, the core at the place where it lies, stacks of what is left."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from corewatch.casefolder import CaseFolder
from corewatch.geometry import NETWORK_SHAPE
from corewatch.instance import Instance
from corewatch.source_images import SourceImages, SourceSlice
from portal.viewer.pictures import WINDOWS, Overlay, Window, core_png, jpeg
from portal.viewer.stack import AlignedStack, SourceStack, images_of, open_stack, sides_of

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def grey(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)).convert("L"))


def rgba(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)))


@pytest.mark.parametrize("window", Window)
def test_window_ends_are_black_and_white(window: Window) -> None:
    width, level = WINDOWS[window]
    for hu, expected in ((level - width, 0), (level + width, 255), (-1024, 0), (3000, 255)):
        assert abs(int(grey(jpeg(np.full((32, 32), hu, np.int16), window))[16, 16]) - expected) <= 2
    middle = int(grey(jpeg(np.full((32, 32), level, np.int16), window))[16, 16])
    assert 120 <= middle <= 136


@pytest.mark.parametrize("overlay", Overlay)
def test_core_is_transparent_outside(overlay: Overlay) -> None:
    core = np.zeros((64, 64), np.uint8)
    core[20:40, 30:50] = 90
    picture = rgba(core_png(core, overlay))
    assert picture.shape == (64, 64, 4)
    assert not picture[:15, :, 3].any()
    assert (picture[20, 30:50, 3] == 255).all()
    assert bool(picture[30, 40, 3]) is (overlay is Overlay.FILL)
    assert rgba(core_png(np.zeros((64, 64), np.uint8), overlay)).max() == 0


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((-1.0, 1.0))] * 2), st.floats(-0.4, 0.4))
def test_letters_follow_the_orientation(axes: list[int], signs: tuple[float, float], tilt: float) -> None:
    row, column = np.zeros(3), np.zeros(3)
    row[axes[0]], column[axes[1]], column[axes[2]] = signs[0], signs[1], tilt
    sides = sides_of((*row, *column))
    pairs = ("LR", "PA", "HF")
    right, bottom = pairs[axes[0]], pairs[axes[1]]
    assert (sides.right, sides.left) == (right[0], right[1])[:: int(signs[0])]
    assert (sides.bottom, sides.top) == (bottom[0], bottom[1])[:: int(signs[1])]


def source(orientation: tuple[float, ...] = AXIAL) -> SourceImages:
    slices = tuple(SourceSlice(CTImageStorage, f"1.{k}", 1, (-60.0, -70.0, float(k))) for k in range(20))
    return SourceImages("9", 140, 120, (1.0, 1.0), orientation, slices)  # type: ignore[arg-type]


def test_core_lies_at_the_place_of_its_voxels() -> None:
    """A core at one network voxel appears on the pixel whose LPS position the matrix maps there."""
    core_map = np.zeros(NETWORK_SHAPE, np.uint8)
    core_map[40:50, 60:70, 30:36] = 100
    lps_to_voxel = np.eye(4)
    lps_to_voxel[:3, 3] = (90.0, 100.0, 25.0)  # voxel = LPS + offset
    stack = SourceStack(source(), {}, {"1.7": 88}, core_map, lps_to_voxel)
    areas = stack.core_areas()
    assert [number for number, area in enumerate(areas) if area] == [5, 6, 7, 8, 9, 10]
    shown = stack.core(7)
    assert shown is not None
    rows, columns = np.nonzero(shown > 50)
    # column = LPS x + 60 = voxel 0 - 30; row = LPS y + 70 = voxel 1 - 30
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 19, 30, 39)
    assert 40 < areas[7] < 200
    assert stack.labels[7].instance_number == 88
    assert stack.core(15) is not None
    assert not stack.core(15).any()  # type: ignore[union-attr]
    with pytest.raises(LookupError):
        stack.hounsfield(3)


def instance(k: int, **more: object) -> Instance:
    values = {"position_lps": (0.0, 0.0, float(k)), "orientation": AXIAL, "pixel_spacing_mm": (0.5, 0.5), "rows": 64, "columns": 64}
    return Instance(f"1.{k}", CTImageStorage, ExplicitVRLittleEndian, "1", "9", instance_number=k, **(values | more))  # type: ignore[arg-type]


def test_a_series_that_was_not_prepared_is_ordered_along_its_normal() -> None:
    mixed = [instance(3), instance(1), instance(2), instance(9, orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))]
    found = images_of(mixed)
    assert found is not None
    assert [one.sop_instance_uid for one in found.slices] == ["1.1", "1.2", "1.3"]
    assert images_of([instance(1, frames=4)]) is None
    assert images_of([instance(1, orientation=None)]) is None
    assert images_of([]) is None


def test_aligned_head_where_the_source_is_gone(tmp_path: Path) -> None:
    folder = CaseFolder(tmp_path)
    assert open_stack(folder, [(instance(1), tmp_path / "gone.dcm")], show_map=True) is None
    hu = np.zeros(NETWORK_SHAPE, np.uint8)
    hu[100:, :, 60] = 40  # first axis ascends to the patient's right... towards the last voxel: the left of the picture
    nib.save(nib.Nifti1Image(hu, np.eye(4)), folder.aligned)
    stack = open_stack(folder, [(instance(1), tmp_path / "gone.dcm")], show_map=True)
    assert isinstance(stack, AlignedStack)
    assert (stack.sides.left, stack.sides.right) == ("R", "L")
    assert stack.core(60) is None
    assert stack.core_areas() == [0.0] * NETWORK_SHAPE[2]
    assert stack.hounsfield(60).shape == stack.shape
