"""Weights files that somebody built to do harm: whatever HDF5 can say, the file is refused or read in the right shapes, quickly."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.models.weights import WeightsRefused, expected_shapes, read_weights, write_weights

FILTERS, UNITS = 2, 3
MAY_USE_BYTES = 8 * 1024**2
"""The file has 40 kB; more than this means that a declared size was believed."""

Harm = Callable[[h5py.File, str, np.random.Generator], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "weights.h5"
    write_weights(path, {name: np.full(shape, 0.5, np.float32) for name, shape in expected_shapes(FILTERS, UNITS).items()})
    return path


def names_of(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


def _replaced(file: h5py.File, name: str, **how: Any) -> None:
    del file[name]
    file.create_dataset(name, **how)


def huge(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    """Declares up to exabytes, stores nothing."""
    shape = tuple(int(2 ** rng.integers(8, 20)) for _ in range(len(file[name].shape)))
    _replaced(file, name, shape=shape, dtype="f4", chunks=tuple(min(16, n) for n in shape))


def external_storage(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    shape = file[name].shape
    _replaced(file, name, shape=shape, dtype="f4", external=[("/dev/zero", int(rng.integers(1000)), h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    """Also one whose source is the file itself, over and over."""
    shape = file[name].shape
    layout = h5py.VirtualLayout(shape=shape, dtype="f4")
    layout[...] = h5py.VirtualSource(str(rng.choice([".", "/etc/passwd", "elsewhere.h5"])), name, shape=shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def link(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    target: Any = h5py.SoftLink("/" + name) if rng.random() < 0.5 else h5py.ExternalLink("/etc/passwd", "/" + name)
    del file[name]
    file[name] = target


def deep(file: h5py.File, _name: str, rng: np.random.Generator) -> None:
    """Groups within groups, thousands of them."""
    group = file
    for _ in range(int(rng.integers(6, 400))):
        group = group.create_group("g")


def loop(file: h5py.File, name: str, _rng: np.random.Generator) -> None:
    """A group that holds a group above it, by a hard link."""
    top = name.split("/")[0]
    file[f"{top}/again"] = file["/"]


def multiplied(file: h5py.File, _name: str, rng: np.random.Generator) -> None:
    """Two hard links a level: each level doubles the ways that lead down."""
    group = file.create_group("m")
    for _ in range(int(rng.integers(4, 40))):
        below = group.create_group("a")
        group["b"] = below
        group = below


def foreign_type(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    kinds: list[Any] = [h5py.string_dtype(), h5py.ref_dtype, h5py.vlen_dtype(np.float32), np.dtype([("a", "f4")]), np.dtype("S8")]
    kind = kinds[int(rng.integers(len(kinds)))]
    _replaced(file, name, shape=file[name].shape, dtype=kind)


def filtered(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    filters: list[dict[str, Any]] = [{"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True}]
    _replaced(file, name, data=np.full(file[name].shape, 0.5, "f4"), **filters[int(rng.integers(len(filters)))])


def not_finite(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    values = file[name][()]
    values.flat[int(rng.integers(values.size))] = rng.choice([np.nan, np.inf, -np.inf])
    file[name][...] = values


def not_there(file: h5py.File, name: str, _rng: np.random.Generator) -> None:
    del file[name]


def group_instead(file: h5py.File, name: str, _rng: np.random.Generator) -> None:
    del file[name]
    file.create_group(name)


def empty(file: h5py.File, name: str, _rng: np.random.Generator) -> None:
    del file[name]
    file[name] = h5py.Empty("f4")


HARMS: list[Harm] = [
    huge,
    external_storage,
    virtual,
    link,
    deep,
    loop,
    multiplied,
    foreign_type,
    filtered,
    not_finite,
    not_there,
    group_instead,
    empty,
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(harm=st.sampled_from(HARMS), which=st.integers(0, 10_000), seed=st.integers(0, 2**32 - 1))
def test_harm_is_refused_in_words_and_costs_no_memory(sound: Path, tmp_path: Path, harm: Harm, which: int, seed: int) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(sound.read_bytes())
    with h5py.File(path, "a") as file:
        names = names_of(file)
        harm(file, names[which % len(names)], np.random.default_rng(seed))

    tracemalloc.start()
    try:
        with pytest.raises(WeightsRefused) as caught:
            read_weights(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAY_USE_BYTES
    assert 0 < len(str(caught.value)) < 400
    assert "root:" not in str(caught.value), "nothing of another file is read"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 100_000), replaced=st.binary(min_size=1, max_size=64))
def test_any_overwritten_stretch_is_refused_or_read_in_the_right_shapes(
    sound: Path, tmp_path: Path, start: int, replaced: bytes
) -> None:
    whole = sound.read_bytes()
    at = start % len(whole)
    path = tmp_path / "weights.h5"
    path.write_bytes((whole[:at] + replaced + whole[at + len(replaced) :])[: len(whole)])

    try:
        weights = read_weights(path)
    except WeightsRefused:
        return
    assert {name: array.shape for name, array in weights.arrays.items()} == expected_shapes(FILTERS, UNITS)
    assert all(np.isfinite(array).all() for array in weights.arrays.values())
