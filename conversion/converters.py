"""Converters of a series, by name, and a comparison of their results."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np

from conversion.convert import convert_with_reference
from conversion.dicom2nifti_converter import convert_with_dicom2nifti
from conversion.series_checks import ANY_STACK, StackRequirements
from conversion.series_reference import SourceReference
from corewatch.errors import NotAnalysed
from corewatch.geometry import apply
from corewatch.volumes import ScannerVolume


class ConverterName(StrEnum):
    """Names of the converters."""

    COREWATCH = "corewatch"
    DICOM2NIFTI = "dicom2nifti"


class Converter(Protocol):
    """Converts the files of a series; the contract is that of `conversion.convert.convert_with_reference`."""

    def __call__(
        self, paths: Sequence[Path], *, threads: int = 2, requirements: StackRequirements = ANY_STACK
    ) -> tuple[ScannerVolume, SourceReference]:
        """Convert a series, or raise `NotAnalysed`."""
        ...


CONVERTERS: dict[ConverterName, Converter] = {
    ConverterName.COREWATCH: convert_with_reference,
    ConverterName.DICOM2NIFTI: convert_with_dicom2nifti,
}


def compare_converters(paths: Sequence[Path], *, threads: int = 2, requirements: StackRequirements = ANY_STACK) -> tuple[str, ...]:
    """Convert a series with each converter and say where the results differ.

    Returns
    -------
    Sentences: the reason of each converter that refuses the series, and the differences of the volumes, or that there are none.
    """
    volumes: dict[ConverterName, ScannerVolume] = {}
    said = []
    for name, convert in CONVERTERS.items():
        try:
            volumes[name] = convert(paths, threads=threads, requirements=requirements)[0]
        except NotAnalysed as error:
            said.append(f"Converter {name} refuses the series ({error.reason}). {error.detail}")
    if len(volumes) == len(CONVERTERS):
        said.append(_difference(volumes[ConverterName.COREWATCH], volumes[ConverterName.DICOM2NIFTI]))
    return tuple(said)


def _difference(ours: ScannerVolume, other: ScannerVolume) -> str:
    if ours.hu.shape != other.hu.shape:
        return f"The converters differ in size: {ours.hu.shape} and {other.hu.shape} voxels."
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in ours.hu.shape])).reshape(3, -1).T
    off_mm = float(np.linalg.norm(apply(ours.voxel_to_lps, corners) - apply(other.voxel_to_lps, corners), axis=1).max())
    differing, largest = 0, 0
    for k in range(ours.hu.shape[2]):
        apart = np.abs(ours.hu[:, :, k].astype(np.int32) - other.hu[:, :, k])
        differing, largest = differing + int(np.count_nonzero(apart)), max(largest, int(apart.max()))
    if not differing:
        return f"The converters agree in every voxel; places differ by at most {off_mm:.3f} mm."
    share = differing / ours.hu.size
    return f"The converters differ in {share:.2%} of the voxels, by at most {largest} HU; places by at most {off_mm:.3f} mm."
