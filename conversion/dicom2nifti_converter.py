"""Conversion of a series by dicom2nifti, behind the contract of `conversion.convert`.

Headers are read and checked as there, so that a series is refused for the same reasons; dicom2nifti makes the voxels and their
matrix. A volume that does not lie where the headers say is refused, and so is a series on which dicom2nifti fails.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray

from conversion.convert import CheckedSeries, check_copies, read_checked
from conversion.decoders import NATIVE
from conversion.hounsfield import check_plausible
from conversion.series_checks import ANY_STACK, GRID_TOLERANCE_MM, StackRequirements
from conversion.series_reference import SourceReference, reference_to
from conversion.volume_grid import AIR_HU
from corewatch.errors import NotAnalysed
from corewatch.geometry import LPS_TO_RAS, Matrix, apply
from corewatch.reasons import Reason
from corewatch.volumes import ScannerVolume

NOTE: Final = "Converted by dicom2nifti."

PADDING_BELOW_HU: Final = -1024
"""Values below are padding around the field of view, which dicom2nifti leaves as it is."""

_REASONS: Final = {
    "GANTRY_TILT": Reason.IRREGULAR_GEOMETRY,
    "NON_CUBICAL_IMAGE/GANTRY_TILT": Reason.IRREGULAR_GEOMETRY,
    "SLICE_INCREMENT_INCONSISTENT": Reason.IRREGULAR_GEOMETRY,
    "IMAGE_ORIENTATION_INCONSISTENT": Reason.MIXED_SERIES,
    "TOO_FEW_SLICES/LOCALIZER": Reason.TOO_FEW_SLICES,
    "NON_IMAGING_DICOM_FILES": Reason.NOT_A_VOLUME,
    "NOT_A_VOLUME": Reason.NOT_A_VOLUME,
    "MISSING_DICOM_FILES": Reason.MISSING_SLICES,
}
"""Messages of dicom2nifti's `ConversionValidationError`."""


def convert_with_dicom2nifti(
    paths: Sequence[Path], *, threads: int = 2, requirements: StackRequirements = ANY_STACK
) -> tuple[ScannerVolume, SourceReference]:
    """Convert a series with dicom2nifti.

    Parameters, returned values and errors are those of `conversion.convert.convert_with_reference`. A tilted gantry and irregular
    steps, which dicom2nifti does not resample, are `IRREGULAR_GEOMETRY`.
    """
    series = read_checked(paths, threads, requirements)
    values, affine = _converted(series)
    hu, voxel_to_lps = _ascending(values, LPS_TO_RAS @ affine)
    _check_place(series, hu.shape, voxel_to_lps)
    stack = hu.transpose(2, 1, 0)
    check_plausible(stack, series.grid.along_mm)
    check_copies(series, stack, threads)
    uids = tuple(one.instance.sop_instance_uid for one in series.slices)
    return ScannerVolume(hu, voxel_to_lps, uids), reference_to(series.slices, (*series.notes, *series.grid.notes, NOTE))


def _converted(series: CheckedSeries) -> tuple[NDArray[Any], Matrix]:
    """Voxels and their matrix to RAS mm, as dicom2nifti makes them."""
    # its import takes a second, and few sites choose it
    from dicom2nifti.convert_dicom import dicom_array_to_nifti
    from dicom2nifti.exceptions import ConversionError, ConversionValidationError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            datasets = [pydicom.dcmread(path) for path in dict.fromkeys(one.path for one in series.slices)]
            for number, dataset in enumerate(datasets, 1):
                # it takes slices whose numbers do not follow their positions for several points in time
                dataset.InstanceNumber = number
            image = dicom_array_to_nifti(datasets, None, reorient_nifti=False)["NII"]
            return np.asarray(image.dataobj), np.array(image.affine, np.float64)
    except MemoryError:
        raise
    except ConversionValidationError as error:
        code = str(error)
        raise NotAnalysed(_REASONS.get(code, Reason.IRREGULAR_GEOMETRY), _failure(code)) from error
    except ConversionError as error:
        raise NotAnalysed(Reason.IRREGULAR_GEOMETRY, _failure(str(error))) from error
    except Exception as error:  # it ends with whatever its own defects raise
        compressed = any(one.instance.transfer_syntax_uid not in NATIVE for one in series.slices)
        reason = Reason.UNSUPPORTED_ENCODING if compressed else Reason.UNREADABLE
        raise NotAnalysed(reason, _failure(type(error).__name__)) from error


def _failure(code: str) -> str:
    """The finding in words; a text that is no code could hold patient data."""
    return f"dicom2nifti does not convert it ({code if re.fullmatch('[A-Za-z_/]{1,60}', code) else 'no code'})."


def _ascending(values: NDArray[Any], to_lps: Matrix) -> tuple[NDArray[np.int16], Matrix]:
    """HU in int16 with slices that ascend along the normal of the images, so that the axes are right-handed."""
    if np.linalg.det(to_lps[:3, :3]) < 0:
        last = values.shape[2] - 1
        values = values[:, :, ::-1]
        to_lps = to_lps @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, last], [0, 0, 0, 1.0]])
    limits = np.iinfo(np.int16)
    hu = np.clip(np.rint(values), limits.min, limits.max).astype(np.int16)
    hu[hu < PADDING_BELOW_HU] = AIR_HU
    return np.asfortranarray(hu), to_lps


def _check_place(series: CheckedSeries, shape: tuple[int, ...], voxel_to_lps: Matrix) -> None:
    """Raise `NotAnalysed(IRREGULAR_GEOMETRY)` where the volume is not the one that positions and orientations describe."""
    grid = series.grid
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    off = np.inf
    if shape == grid.shape:
        off = float(np.linalg.norm(apply(voxel_to_lps, corners) - apply(grid.voxel_to_lps, corners), axis=1).max())
    if grid.resampled or not off <= GRID_TOLERANCE_MM:
        detail = "dicom2nifti's volume does not lie where the headers say; it does not resample tilted or irregular slices."
        raise NotAnalysed(Reason.IRREGULAR_GEOMETRY, detail)
