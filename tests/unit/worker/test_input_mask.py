"""Input mask: what a model sees of a head, and that a head which was masked before is left as it is."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.input_mask import on_holder, thickened, with_ears
from corewatch.findings import Side
from corewatch.geometry import NETWORK_SHAPE
from phantom.head import HeadSpec
from phantom.training import aligned_sample
from worker.models.input_mask import cut, is_masked, mask_region
from worker.models.manifest import InputFrame, InputMask, ModelManifest

RIM = InputMask()


@pytest.fixture(scope="module")
def phantom() -> NDArray[np.uint8]:
    return aligned_sample(2, HeadSpec(2, 40.0, Side.RIGHT), residual=0.0).hu


def manifest(**given: object) -> ModelManifest:
    text = {"name": "m", "version": "1", "sha256": "0" * 64, "adapter": "deepsymnet", "intended_use": "research"} | given
    return ModelManifest.model_validate_json(json.dumps(text))


def test_the_region_is_the_brain_with_its_rim_and_equal_to_its_mirror_image() -> None:
    region = mask_region(RIM)
    assert region.shape == NETWORK_SHAPE
    assert region.dtype == bool
    np.testing.assert_array_equal(region, region[::-1])
    assert region[72, 90, 64]
    assert not region[:2].any()
    assert not region[-2:].any()
    assert not region[:, :2].any()
    assert not region[:, -2:].any()
    # the template's brain takes 1.83 litres of the grid
    assert 1.83e6 < np.count_nonzero(region) < 2.0e6


def test_a_wider_mask_holds_the_narrower_one() -> None:
    wide, narrow = mask_region(InputMask(beyond_brain_mm=6.0)), mask_region(RIM)
    assert not (narrow & ~wide).any()
    assert np.count_nonzero(wide) > np.count_nonzero(narrow)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_cutting_keeps_the_values_inside_and_cutting_again_changes_nothing(phantom: NDArray[np.uint8], dtype: type) -> None:
    head = phantom.astype(dtype)
    once = cut(head, RIM)
    assert once.dtype == dtype
    np.testing.assert_array_equal(once[mask_region(RIM)], head[mask_region(RIM)])
    assert not once[~mask_region(RIM)].any()
    np.testing.assert_array_equal(cut(once, RIM), once)


@pytest.mark.parametrize("thickness_mm", [0.0, 4.0, 14.0])
def test_a_head_with_its_scalp_was_not_masked(phantom: NDArray[np.uint8], thickness_mm: float) -> None:
    assert not is_masked(thickened(phantom, thickness_mm))


def test_a_masked_head_is_known_as_such(phantom: NDArray[np.uint8]) -> None:
    assert is_masked(cut(phantom, RIM))
    assert is_masked(np.zeros(NETWORK_SHAPE, np.uint8))


def test_the_published_patient_was_masked_and_is_not_with_a_scalp(shared: Path) -> None:
    head = np.asarray(nib.load(shared / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz").dataobj, np.uint8)
    assert is_masked(head)
    assert is_masked(head[::-1])
    dressed = thickened(head, 4.0)
    assert not is_masked(dressed)
    assert not is_masked(with_ears(on_holder(dressed)))


def test_skull_scalp_holder_and_ears_do_not_reach_the_model(phantom: NDArray[np.uint8]) -> None:
    plain, dressed = cut(phantom, RIM), cut(with_ears(on_holder(thickened(phantom, 8.0))), RIM)
    assert np.count_nonzero(plain != dressed) < 0.01 * plain.size


@pytest.mark.parametrize(
    ("given", "mask"),
    [
        ({"input": InputFrame().model_dump(exclude={"mask"})}, RIM),
        ({}, RIM),
        ({"input": InputFrame(mask=None).model_dump()}, None),
        ({"input": InputFrame(mask=InputMask(beyond_brain_mm=3.0)).model_dump()}, InputMask(beyond_brain_mm=3.0)),
        ({"adapter": "another"}, None),
    ],
    ids=["of an earlier version", "without input", "whole head", "its own", "another adapter"],
)
def test_the_mask_of_a_manifest(given: dict[str, object], mask: InputMask | None) -> None:
    assert manifest(**given).input_mask == mask
