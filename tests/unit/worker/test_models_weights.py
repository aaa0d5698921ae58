"""Weights files: the layout is read and written, anything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corewatch.errors import ConfigurationError
from worker.models.weights import MAX_FILE_BYTES, WeightsRefused, expected_shapes, read_weights, write_weights

FILTERS, UNITS = 2, 3
KERNEL = "conv3d_10/conv3d_10/kernel:0"


def arrays(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {name: np.abs(rng.standard_normal(shape)).astype(np.float32) for name, shape in expected_shapes(FILTERS, UNITS).items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "weights.h5"
    write_weights(file, arrays())
    return file


def test_what_is_written_is_read(path: Path) -> None:
    weights = read_weights(path)

    assert (weights.filters, weights.units) == (FILTERS, UNITS)
    for name, array in arrays().items():
        np.testing.assert_array_equal(weights.arrays[name], array)


def test_the_same_weights_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_weights(tmp_path / "again.h5", arrays())

    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_the_layout_is_that_of_keras(path: Path) -> None:
    with h5py.File(path) as file:
        assert file["model/conv3d/kernel:0"].shape == (3, 3, 3, 1, FILTERS)
        assert file["core_dense/core_dense/kernel:0"].shape == (FILTERS, UNITS)
        assert b"conv3d/kernel:0" in file["model"].attrs["weight_names"]
        assert b"core_output" in file.attrs["layer_names"]


def test_incomplete_weights_are_not_written(tmp_path: Path) -> None:
    incomplete = arrays()
    del incomplete["conv3d_3/bias"]

    with pytest.raises(ValueError, match="complete set"):
        write_weights(tmp_path / "weights.h5", incomplete)


def test_the_published_files_second_head_is_tolerated(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["pen_dense/pen_dense/kernel:0"] = np.zeros((UNITS, UNITS), np.float32)
        file["pen_dense/pen_dense/bias:0"] = np.zeros(UNITS, np.float32)

    assert "pen_dense/kernel" not in read_weights(path).arrays


def _drop(file: h5py.File) -> None:
    del file[KERNEL]


def _shape(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = np.zeros((3, 3, 3, FILTERS, FILTERS + 1), np.float32)


def _scalar(file: h5py.File) -> None:
    del file["model/conv3d/bias:0"]
    file["model/conv3d/bias:0"] = np.float32(1)


def _foreign(file: h5py.File) -> None:
    file["conv3d_15/conv3d_15/kernel:0"] = np.zeros(1, np.float32)


def _integers(file: h5py.File) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    file[KERNEL] = np.zeros(shape, np.int32)


def _objects(file: h5py.File) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape=shape, dtype=h5py.string_dtype())


def _infinite(file: h5py.File) -> None:
    file[KERNEL][0, 0, 0, 0, 0] = np.inf


def _negative_variance(file: h5py.File) -> None:
    file["model/sync_batch_normalization/moving_variance:0"][0] = -1


def _compressed(file: h5py.File) -> None:
    values = file[KERNEL][()]
    del file[KERNEL]
    file.create_dataset(KERNEL, data=values, compression="gzip")


def _huge(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, shape=(1 << 20, 1 << 20, 3), dtype="f4", chunks=(1, 1, 3))


def _many_filters(file: h5py.File) -> None:
    del file["model/conv3d/bias:0"]
    file.create_dataset("model/conv3d/bias:0", shape=(1 << 40,), dtype="f4", chunks=(1024,))


def _soft_link(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/conv3d_11/conv3d_11/kernel:0")


def _external_link(file: h5py.File) -> None:
    del file["conv3d_10"]
    file["conv3d_10"] = h5py.ExternalLink("/etc/passwd", "/")


def _external_storage(file: h5py.File) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape=shape, dtype="f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    layout = h5py.VirtualLayout(shape=shape, dtype="f4")
    layout[...] = h5py.VirtualSource("elsewhere.h5", "x", shape=shape)
    file.create_virtual_dataset(KERNEL, layout)


def _cycle(file: h5py.File) -> None:
    file["core_dense/again"] = file["/"]


def _crowd(file: h5py.File) -> None:
    for i in range(1100):
        file.create_group(f"g{i}")


def _unwritten(file: h5py.File) -> None:
    """HDF5 would read zeros: a file whose writer was stopped, or a tiny one that pretends to hold everything."""
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape=shape, dtype="f4")


def _unwritten_chunks(file: h5py.File) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape=shape, dtype="f4", chunks=(1,) * 5, fillvalue=0.5)
    file[KERNEL][0, 0, 0] = 0.5


def _huge_chunk(file: h5py.File) -> None:
    """3.9 GiB to be read for a kernel of 432 bytes."""
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape=shape, maxshape=(None,) * 5, dtype="f4", chunks=(63,) * 5)


def _long_name(file: h5py.File) -> None:
    file["x" * 60_000] = np.zeros(1, np.float32)


def _named_type(file: h5py.File) -> None:
    file["type"] = np.dtype("f4")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop, "lacks conv3d_10"),
        (_shape, "has shape"),
        (_scalar, "another network"),
        (_foreign, "does not have"),
        (_integers, "not floating-point"),
        (_objects, "not floating-point"),
        (_infinite, "not finite"),
        (_negative_variance, "negative variance"),
        (_compressed, "compressed"),
        (_huge, "has shape"),
        (_many_filters, "filters"),
        (_soft_link, "link"),
        (_external_link, "link"),
        (_external_storage, "another file"),
        (_virtual, "another file"),
        (_cycle, "too many groups"),
        (_crowd, "too many groups"),
        (_named_type, "not a weight"),
        (_unwritten, "never written"),
        (_unwritten_chunks, "never written"),
        (_huge_chunk, "never written"),
        (_long_name, r"does not have: 'x{80}\.\.\.'$"),
    ],
)
def test_a_foreign_or_hostile_file_is_refused(path: Path, damage: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(path, "a") as file:
        damage(file)

    with pytest.raises(WeightsRefused, match=message):
        read_weights(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_weights(tmp_path / "weights.h5")


def test_what_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"\x80\x04cos\nsystem\n")

    with pytest.raises(WeightsRefused, match="not HDF5"):
        read_weights(tmp_path / "weights.h5")


def test_a_file_beyond_the_limit_is_refused_before_it_is_opened(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    with pytest.raises(WeightsRefused, match="at most"):
        read_weights(path)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.0, 0.99))
def test_a_truncated_file_is_refused(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("truncated") / "weights.h5"
    write_weights(file, arrays())
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(WeightsRefused):
        read_weights(file)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_file_with_flipped_bytes_is_refused_or_read_in_the_right_shapes(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("flipped") / "weights.h5"
    write_weights(file, arrays())
    rng = np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    for position in rng.integers(0, len(content), 40):
        content[position] = rng.integers(256)
    file.write_bytes(content)

    try:
        weights = read_weights(file)
    except WeightsRefused:
        return
    assert {name: array.shape for name, array in weights.arrays.items()} == expected_shapes(FILTERS, UNITS)
    assert all(np.isfinite(array).all() for array in weights.arrays.values())
