"""One image in many encodings: the lossless ones must give identical stored values, the lossy ones nearly so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels import get_decoder

from conversion.frames import check_pixels, decode_into
from conversion.slices import slices_of_file

HEAD_LOSSLESS = ["CT2_UNC", "CT2_JPLL", "CT2_JLSL", "CT2_J2KR", "CT2_RLE"]
HEAD_LOSSY = {"CT2_JLSN": 10, "CT2_J2KI": 500}
CHEST_LOSSLESS = ["1.2", "1.2.1", "1.2.2", "1.2.1.99", "1.2.5", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90"]
CHEST_LOSSY = {"1.2.4.81": 3, "1.2.4.91": 30, "1.2.4.51": 40, "1.2.4.53": 40, "1.2.4.55": 40}
"""Largest difference in HU that each may show inside the field of view. The 12-bit JPEGs hold steps of 2 HU."""


def hounsfield(path: Path) -> NDArray[np.int16]:
    slices = slices_of_file(path)
    assert check_pixels(slices) == []
    out = np.empty((1, slices[0].pixels.rows, slices[0].pixels.columns), np.int16)
    decode_into(slices, [0], out)
    return out[0]


def chest(shared: Path, syntax: str) -> Path:
    (path,) = (shared / "data" / "encodings" / "chest_slice").glob(f"*_1.2.840.10008.{syntax}.dcm")
    return path


@pytest.mark.parametrize("name", HEAD_LOSSLESS)
def test_a_head_slice_is_identical_in_every_lossless_encoding(shared: Path, name: str) -> None:
    folder = shared / "data" / "encodings" / "head_slice"
    wanted = hounsfield(folder / "CT2_UNC.dcm")
    assert (wanted.min(), wanted.max()) == (-2048, 1433)
    np.testing.assert_array_equal(hounsfield(folder / f"{name}.dcm"), wanted)


@pytest.mark.parametrize("name", HEAD_LOSSY)
def test_a_head_slice_is_close_in_every_lossy_encoding(shared: Path, name: str) -> None:
    folder = shared / "data" / "encodings" / "head_slice"
    wanted, found = hounsfield(folder / "CT2_UNC.dcm").astype(int), hounsfield(folder / f"{name}.dcm").astype(int)
    assert 0 < np.abs(found - wanted).max() <= HEAD_LOSSY[name]
    assert np.abs(found - wanted).mean() < 20  # J2KI is packed hard


@pytest.mark.parametrize("syntax", CHEST_LOSSLESS)
def test_a_chest_slice_is_identical_in_every_lossless_encoding(shared: Path, syntax: str) -> None:
    wanted = hounsfield(shared / "data" / "encodings" / "chest_slice" / "original.dcm")
    assert (wanted.min(), wanted.max()) == (-2000 - 1024, 2402 - 1024)
    np.testing.assert_array_equal(hounsfield(chest(shared, syntax)), wanted)


@pytest.mark.parametrize("syntax", CHEST_LOSSY)
def test_a_chest_slice_is_close_in_every_lossy_encoding(shared: Path, syntax: str) -> None:
    wanted = hounsfield(shared / "data" / "encodings" / "chest_slice" / "original.dcm").astype(int)
    found = hounsfield(chest(shared, syntax)).astype(int)
    seen = wanted > -1000
    assert 0 < np.abs(found - wanted)[seen].max() <= CHEST_LOSSY[syntax]
    assert np.abs(found - wanted)[seen].mean() < 8


def test_a_j2k_stream_of_other_signedness_than_its_header_keeps_its_values(shared: Path) -> None:
    found = hounsfield(shared / "data" / "odd" / "J2K_pixelrep_mismatch.dcm")
    assert (found.min(), found.max()) == (-2000, 1896)


SECOND_OPINIONS = [
    ("head_slice/CT2_JPLL", "gdcm", 0),
    ("head_slice/CT2_JLSL", "pyjpegls", 0),
    ("head_slice/CT2_JLSN", "pyjpegls", 0),
    ("head_slice/CT2_J2KR", "pylibjpeg", 0),
    ("head_slice/CT2_J2KI", "gdcm", 1),  # rounding of the irreversible transform
    ("head_slice/CT2_RLE", "pydicom", 0),
    ("odd/J2K_pixelrep_mismatch", "pylibjpeg", 0),
]


@pytest.mark.parametrize(("name", "plugin", "tolerance"), SECOND_OPINIONS)
def test_other_decoders_find_the_same_stored_values(shared: Path, name: str, plugin: str, tolerance: int) -> None:
    path = shared / "data" / (f"{name}.dcm" if name.startswith("odd") else f"encodings/{name}.dcm")
    dataset = pydicom.dcmread(path)
    theirs = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=True, decoding_plugin=plugin)[0]
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    ours = hounsfield(path)
    padding = dataset.get("PixelPaddingValue")
    measured = np.ones(ours.shape, bool) if padding is None else theirs != padding
    assert measured.mean() > 0.5
    assert np.abs(ours - (theirs * slope + intercept))[measured].max() <= tolerance
