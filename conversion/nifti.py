"""NIfTI-1 files of a case: the aligned head and the core maps, written atomically.

Both transforms of the header are set and coded, so that every viewer shows the same place; units are mm, the world frame is RAS.
"""

from __future__ import annotations

import gzip
import math
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from corewatch.errors import NotAnalysed
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS, Matrix, voxel_sizes
from corewatch.reasons import Reason
from corewatch.volumes import AlignedHead
from foundation.durable import replacing

HU_RANGE: Final = (0, 100)
"""HU range of the network's input."""

AXIS_TOLERANCE: Final = 1e-3
"""Largest difference of an entry of the affine's 3 x 3 part from L-A-S axes of 1 mm: 0.2 mm over the grid."""

_LARGEST_FILE: Final = 8 * math.prod(NETWORK_SHAPE) + (1 << 20)
"""Largest file in bytes: the grid in the widest type that is read (float64), and a header with extensions."""

_NIFTI2_SIZES: Final = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
"""sizeof_hdr 540 in either byte order."""

_NIBABEL_ERRORS: Final = (ImageFileError, HeaderDataError, WrapStructError)

_GZIP_LEVEL: Final = 1
"""Fastest level: a file is read once or twice, and a higher level takes seconds to save a few per cent."""

_SCANNER, _ALIGNED, _TEMPLATE = 1, 2, 4
"""NIFTI_XFORM codes: scanner's own frame; aligned to something else; a template's frame."""


def write_aligned(path: Path, head: AlignedHead) -> None:
    """Write an aligned head: uint8, HU 0-100, on the network's grid in the world of nilearn's ICBM 2009a template."""
    _write(path, np.clip(head.hu, *HU_RANGE).astype(np.uint8), NETWORK_TO_RAS, _TEMPLATE, "corewatch CTA head, HU 0-100")


def write_core_map(path: Path, core_map: NDArray[np.uint8]) -> None:
    """Write a core map on the network's grid, uint8, 0-100.

    Raises
    ------
    ValueError
        The map has another shape than the grid.
    """
    if core_map.shape != NETWORK_SHAPE:
        raise ValueError(f"a core map has shape {NETWORK_SHAPE}, not {core_map.shape}")
    _write(path, core_map.astype(np.uint8, copy=False), NETWORK_TO_RAS, _TEMPLATE, "corewatch core map, research use only")


def write_native_map(path: Path, core_map: NDArray[np.uint8], voxel_to_lps: Matrix) -> None:
    """Write a core map on the scanner's grid, uint8, 0-100, in the scanner's world: it overlays the series it came from.

    Parameters
    ----------
    core_map
        Shape (columns, rows, slices) of the `ScannerVolume`.
    voxel_to_lps
        Its matrix.
    """
    to_ras = LPS_TO_RAS @ voxel_to_lps
    _write(path, core_map.astype(np.uint8, copy=False), to_ras, _SCANNER, "corewatch core map, research use only")


def read_aligned(path: Path) -> AlignedHead:
    """Read a head that is aligned already. Values outside of HU 0-100 are clipped.

    Any origin is accepted: the network sees voxels only, and files of the published pipeline have another origin. Other axes are
    refused: a mirrored head would be analysed as if its sides were exchanged.

    Raises
    ------
    NotAnalysed
        `WRONG_GRID`: another shape, voxel size or orientation, or no transform in the header. `UNREADABLE`: not NIfTI, or damaged.
    OSError
        The file could not be opened or read.
    """
    with path.open("rb") as file:
        return AlignedHead(_read_on_grid(file), None, None)


def check_aligned(data: bytes) -> None:
    """Check the bytes of an aligned head exactly as `read_aligned` does.

    Raises
    ------
    NotAnalysed
        As `read_aligned`.
    """
    _read_on_grid(BytesIO(data))


def read_core_map(path: Path) -> NDArray[np.uint8]:
    """Read a core map that `write_core_map` wrote: uint8, (146, 182, 133), 0-100.

    Raises
    ------
    NotAnalysed
        As `read_aligned`.
    OSError
        The file could not be opened or read.
    """
    with path.open("rb") as file:
        return _read_on_grid(file)


def _read_on_grid(file: BinaryIO) -> NDArray[np.uint8]:
    try:
        return _decode(file)
    except NotAnalysed:
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError, *_NIBABEL_ERRORS) as error:
        raise NotAnalysed(Reason.UNREADABLE, "The file is not NIfTI, or it is damaged.") from error


def _decode(file: BinaryIO) -> NDArray[np.uint8]:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if packed else file
    data = stream.read(_LARGEST_FILE)
    kind: Any = nibabel.Nifti2Image if data[:4] in _NIFTI2_SIZES else nibabel.Nifti1Image
    header = kind.header_class.from_fileobj(BytesIO(data))
    coded = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    _check_grid(tuple(header.get_data_shape()), np.asarray(header.get_best_affine(), np.float64), coded)
    if stream.read(1):  # reading to the very end also makes gzip compare its checksum
        raise NotAnalysed(Reason.UNREADABLE, "The file is larger than its header allows.")
    values = np.asarray(kind.from_bytes(data).dataobj, np.float32).reshape(NETWORK_SHAPE)
    if not np.isfinite(values).all():
        raise NotAnalysed(Reason.IMPLAUSIBLE_VALUES, "Some values are no numbers.")
    return np.rint(np.clip(values, *HU_RANGE)).astype(np.uint8)


def _check_grid(shape: tuple[int, ...], affine: Matrix, coded: bool) -> None:
    if shape[:3] != NETWORK_SHAPE or any(length != 1 for length in shape[3:]):
        raise NotAnalysed(Reason.WRONG_GRID, f"It has {' x '.join(map(str, shape))} voxels.")
    if not coded:
        raise NotAnalysed(Reason.WRONG_GRID, "Its header does not say how it is oriented.")
    if np.abs(affine[:3, :3] - NETWORK_TO_RAS[:3, :3]).max() > AXIS_TOLERANCE:
        axes = "-".join(nibabel.aff2axcodes(affine))
        sizes = " x ".join(f"{size:.3g}" for size in voxel_sizes(affine))
        raise NotAnalysed(Reason.WRONG_GRID, f"Its axes are {axes} with voxels of {sizes} mm, or turned against them.")


def _write(path: Path, values: NDArray[Any], to_ras: Matrix, code: int, description: str) -> None:
    image: Any = nibabel.Nifti1Image(values, to_ras)
    image.set_sform(to_ras, code)
    image.set_qform(to_ras, code)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()
    if values.dtype == np.uint8:
        image.header["cal_max"] = HU_RANGE[1]
    # no name and no time in the gzip header: equal volumes make equal files
    with replacing(path) as file, gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
        image.to_stream(packed)
