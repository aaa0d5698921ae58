"""Weights file of DeepSymNet: HDF5 in the layout of Keras 2.4 (`save_weights`), read as untrusted data.

It is read with h5py alone: nothing in it is executed, unpickled or followed to another file. Every name and shape is known
beforehand, so a damaged or hostile file, or one of another network, is refused before its data are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

from corewatch.errors import ConfigurationError
from corewatch.units import MIB

NORM_EPSILON: Final = 1e-3
"""Keras' default epsilon of batch normalisation, which the published network uses."""

FINAL_NORM: Final = "sync_batch_normalization_9"
"""Name of the normalisation before the global average."""

MAX_FILE_BYTES: Final = 64 * MIB
MAX_FILTERS: Final = 64
MAX_UNITS: Final = 256
_MAX_OBJECTS: Final = 1000
_MAX_DEPTH: Final = 4
_MAX_SHOWN: Final = 80

_CONVS: Final = 15
_ENCODER_CONVS: Final = 9
_NORMS: Final = 5
_ENCODER_NORMS: Final = 3
_KERNEL: Final = (3, 3, 3)
_NORM_PARTS: Final = ("gamma", "beta", "moving_mean", "moving_variance")
_SHARED_MODEL: Final = "model"
"""Group of the encoder, which Keras saves as a nested model."""


class WeightsRefused(ConfigurationError):
    """The file is not a valid weights file of this network; the message says why."""


def conv_name(number: int) -> str:
    """Keras' name of the convolution with this number, counted from the input."""
    return "conv3d" if number == 0 else f"conv3d_{number}"


def norm_name(number: int) -> str:
    """Keras' name of the normalisation with this number."""
    return "sync_batch_normalization" if number == 0 else f"sync_batch_normalization_{number}"


@dataclass(frozen=True, slots=True, eq=False)
class DeepSymNetWeights:
    """All weights of the network.

    Attributes
    ----------
    arrays
        float32 by ``layer/part``, for example ``conv3d_3/kernel`` (3, 3, 3, in, out). Without the weights of the penumbra head.
    """

    arrays: Mapping[str, NDArray[np.float32]]

    @property
    def filters(self) -> int:
        """Filters of each convolution."""
        return int(self.arrays["conv3d/bias"].shape[0])

    @property
    def units(self) -> int:
        """Units of the dense layer before the output."""
        return int(self.arrays["core_dense/bias"].shape[0])


def expected_shapes(filters: int, units: int) -> dict[str, tuple[int, ...]]:
    """Shape of every weight, by ``layer/part``, for a network with this many filters and dense units."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(_CONVS):
        shapes[f"{conv_name(i)}/kernel"] = (*_KERNEL, 1 if i == 0 else filters, filters)
        shapes[f"{conv_name(i)}/bias"] = (filters,)
    for name in (*(norm_name(i) for i in range(_NORMS)), FINAL_NORM):
        shapes |= {f"{name}/{part}": (filters,) for part in _NORM_PARTS}
    shapes |= {
        "core_dense/kernel": (filters, units),
        "core_dense/bias": (units,),
        "core_output/kernel": (units, 1),
        "core_output/bias": (1,),
    }
    return shapes


def _penumbra_shapes(units: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the published file's second head, which is not used."""
    return {
        "pen_dense/kernel": (units, units),
        "pen_dense/bias": (units,),
        "pen_output/kernel": (units, 1),
        "pen_output/bias": (1,),
    }


def _path(weight: str) -> str:
    """Path in the file: ``conv3d/kernel`` -> ``model/conv3d/kernel:0``, ``core_dense/bias`` -> ``core_dense/core_dense/bias:0``."""
    layer = weight.split("/")[0]
    encoder = {*(conv_name(i) for i in range(_ENCODER_CONVS)), *(norm_name(i) for i in range(_ENCODER_NORMS))}
    return f"{_SHARED_MODEL if layer in encoder else layer}/{weight}:0"


def read_weights(path: Path) -> DeepSymNetWeights:
    """Read and check a weights file.

    Raises
    ------
    WeightsRefused
        Not HDF5, truncated, too large, another network's, links or data outside the file, unusual storage, or values that are not
        finite.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise WeightsRefused(f"the weights file cannot be read: {error.strerror}") from error
    if size > MAX_FILE_BYTES:
        raise WeightsRefused(f"the weights file has {size} bytes; this network's has at most {MAX_FILE_BYTES}")
    if not h5py.is_hdf5(path):
        raise WeightsRefused("the weights file is not HDF5")
    try:
        with h5py.File(path, "r", locking=False) as file:
            arrays = _checked(_datasets(file))
    except WeightsRefused:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises on damage
        raise WeightsRefused(f"the weights file is damaged: {error}") from error
    return DeepSymNetWeights(arrays)


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """All datasets of the file by path; refuses links out of the file, and files with too many groups or levels."""
    found: dict[str, h5py.Dataset] = {}
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    seen = 0
    while waiting:
        path, group = waiting.pop()
        seen += len(group)  # hard links can form loops: every visit counts
        if seen > _MAX_OBJECTS or path.count("/") > _MAX_DEPTH:
            raise WeightsRefused("the file is not built like this network's weights (too many groups)")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise WeightsRefused(f"the file holds a link at {_shown(name)}; weights must lie in the file itself")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append((f"{path}{name}/", item))
            elif isinstance(item, h5py.Dataset):
                found[f"{path}{name}"] = item
            else:
                raise WeightsRefused(f"the file holds an object that is not a weight at {_shown(name)}")
    return found


def _shown(name: str) -> str:
    """A name from the file, quoted and shortened for a message."""
    return repr(name if len(name) <= _MAX_SHOWN else name[:_MAX_SHOWN] + "...")


def _checked(datasets: Mapping[str, h5py.Dataset]) -> dict[str, NDArray[np.float32]]:
    """Compare the datasets with the expected ones, then read them."""
    try:
        filters, units = (int(datasets[_path(name)].shape[0]) for name in ("conv3d/bias", "core_dense/bias"))
    except (KeyError, IndexError) as error:
        raise WeightsRefused("the file holds another network's weights (no convolution conv3d or no layer core_dense)") from error
    if not (1 <= filters <= MAX_FILTERS and 1 <= units <= MAX_UNITS):
        raise WeightsRefused(f"the file says {filters} filters and {units} units; at most {MAX_FILTERS} and {MAX_UNITS} are read")
    used = {_path(name): shape for name, shape in expected_shapes(filters, units).items()}
    unused = {_path(name): shape for name, shape in _penumbra_shapes(units).items()}
    missing = sorted(used.keys() - datasets.keys())
    foreign = sorted(datasets.keys() - used.keys() - unused.keys())
    if missing:
        raise WeightsRefused(f"the file lacks {missing[0]} and {len(missing) - 1} more weights")
    if foreign:
        raise WeightsRefused(f"the file holds weights that this network does not have: {_shown(foreign[0])}")
    for path, dataset in datasets.items():
        _check_storage(path, dataset, {**used, **unused}[path])
    arrays = {}
    for name in expected_shapes(filters, units):
        array = np.asarray(datasets[_path(name)][()], np.float32)
        if not np.isfinite(array).all():
            raise WeightsRefused(f"{_path(name)} holds values that are not finite")
        if name.endswith("moving_variance") and (array < 0).any():
            raise WeightsRefused(f"{_path(name)} holds a negative variance")
        array.setflags(write=False)
        arrays[name] = array
    return arrays


def _check_storage(path: str, dataset: h5py.Dataset, shape: tuple[int, ...]) -> None:
    """Check the description of a dataset before any of its data are read."""
    if dataset.shape != shape:
        raise WeightsRefused(f"{path} has shape {dataset.shape} instead of {shape}")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise WeightsRefused(f"{path} holds {dataset.dtype}, not floating-point numbers")
    creation = dataset.id.get_create_plist()
    if creation.get_external_count() or creation.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT):
        raise WeightsRefused(f"{path} keeps its data in another file")
    if creation.get_nfilters():
        # a filter can name a plug-in that HDF5 would load as code; weights do not compress
        raise WeightsRefused(f"{path} is stored compressed or filtered; weights are stored plainly")
    if dataset.id.get_storage_size() < dataset.nbytes:
        # HDF5 would fill in the rest (with zeros, or any value that the file names)
        raise WeightsRefused(f"{path} was never written, or not whole")


def write_weights(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Write weights in the same layout; the same weights give the same bytes.

    Raises
    ------
    ValueError
        `arrays` is not the complete set of `expected_shapes`.
    """
    filters, units = arrays["conv3d/bias"].shape[0], arrays["core_dense/bias"].shape[0]
    shapes = expected_shapes(filters, units)
    if {name: array.shape for name, array in arrays.items()} != shapes:
        raise ValueError("the weights are not the complete set of this network")
    layers: dict[str, list[str]] = {}
    for name in shapes:
        top, within = _path(name).split("/", 1)
        layers.setdefault(top, []).append(within)
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs["layer_names"] = np.array([layer.encode() for layer in layers])
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.4.0"
        for layer, names in layers.items():
            file.create_group(layer).attrs["weight_names"] = np.array([name.encode() for name in names])
        for name in shapes:
            file.create_dataset(_path(name), data=np.asarray(arrays[name], np.float32), track_times=False)
