from __future__ import annotations

import gzip
import tracemalloc
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread, uid

from conversion.nifti import read_aligned
from corewatch.errors import NotAnalysed
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS
from corewatch.reasons import Reason
from daemon.watch.content import AlignedFile, InstanceFile, LeftOut, aligned_problem, may_be_useful, read_content
from tests.support import hostile
from tests.support.listener import ct_slice, file_bytes


def nifti(shape: tuple[int, ...] = NETWORK_SHAPE, affine: np.ndarray = NETWORK_TO_RAS) -> bytes:
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), affine)
    return gzip.compress(image.to_bytes(), 1)


def test_a_dicom_file_is_stored_byte_for_byte() -> None:
    data = file_bytes(ct_slice())
    content = read_content("any name", data)
    assert isinstance(content, InstanceFile)
    assert content == InstanceFile(ct_slice().SOPInstanceUID, (data,))


@pytest.mark.parametrize("transfer_syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_a_data_set_without_header_gets_one(transfer_syntax: str) -> None:
    dataset = ct_slice(transfer_syntax=transfer_syntax)
    if transfer_syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    whole = file_bytes(dataset)
    prefix = b"\x00\x08\x00\x16" if transfer_syntax == uid.ExplicitVRBigEndian else b"\x08\x00\x16\x00"
    content = read_content("bare", whole[whole.index(prefix) :])
    assert isinstance(content, InstanceFile)
    again = dcmread(BytesIO(b"".join(content.chunks)))
    assert again == dcmread(BytesIO(whole))
    assert again.file_meta.TransferSyntaxUID == transfer_syntax


def test_a_file_without_preamble_gets_one() -> None:
    content = read_content("bare", file_bytes(ct_slice())[132:])
    assert isinstance(content, InstanceFile)
    assert b"".join(content.chunks) == file_bytes(ct_slice())


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"PK\x03\x04", "zip within a zip"),
        (b"Rar!\x1a\x07\x01\x00", "only zip"),
        (b"7z\xbc\xaf\x27\x1c", "only zip"),
        (gzip.compress(b"a tar", mtime=0), "only zip"),
        (b"Dear colleague", "not DICOM"),
    ],
)
def test_an_archive_that_is_not_unpacked_has_its_reason(head: bytes, words: str) -> None:
    content = read_content("images", head + bytes(500))
    assert isinstance(content, LeftOut)
    assert words in content.reason


def test_an_instance_without_uid_is_left_out() -> None:
    dataset = ct_slice()
    whole = file_bytes(dataset)
    del dataset.SOPInstanceUID
    del dataset.file_meta.MediaStorageSOPInstanceUID
    buffer = BytesIO()
    dataset.save_as(buffer)
    assert whole != buffer.getvalue()
    content = read_content("x", buffer.getvalue())
    assert isinstance(content, LeftOut)
    assert "SOP Instance UID" in content.reason


def test_a_dicomdir_is_not_left_out() -> None:
    index = ct_slice(sop_class=uid.MediaStorageDirectoryStorage)
    assert read_content("DICOMDIR", file_bytes(index)) is None


def test_an_aligned_head_is_accepted() -> None:
    data = nifti()
    assert aligned_problem(data) is None
    assert read_content("head.NII.GZ", data) == AlignedFile(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (nifti((10, 10, 10)), Reason.WRONG_GRID.sentence),
        (nifti(affine=np.diag([2.0, 2, 2, 1])), Reason.WRONG_GRID.sentence),
        (nifti((*NETWORK_SHAPE, 2)), Reason.WRONG_GRID.sentence),
        (nifti()[:-100], "damaged"),
        (b"not gzip", "damaged"),
        (gzip.compress(b"not nifti", mtime=0), "not NIfTI"),
        (gzip.compress(b"", mtime=0), "not NIfTI"),
    ],
)
def test_other_heads_are_left_out_with_the_reason(data: bytes, reason: str) -> None:
    content = read_content("head.nii.gz", data)
    assert isinstance(content, LeftOut)
    assert reason in content.reason


def test_a_gzip_bomb_is_not_unpacked_completely() -> None:
    bomb = nifti() + gzip.compress(bytes(10**9), 1)
    tracemalloc.start()
    try:
        assert "larger than its header allows" in (aligned_problem(bomb) or "")
        assert tracemalloc.get_traced_memory()[1] < 2e8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(nibabel.Nifti2Image(np.zeros(NETWORK_SHAPE, np.uint8), NETWORK_TO_RAS).to_bytes(), 1),
        nifti((*NETWORK_SHAPE, 1)),
        nifti(),
        nifti(affine=np.diag([1.0, 1, 1, 1]) @ NETWORK_TO_RAS @ np.diag([-1.0, 1, 1, 1])),
        nifti((*NETWORK_SHAPE, 3)),
        nifti()[:-100],
        b"not gzip",
    ],
    ids=["nifti-2", "one-volume", "plain", "mirrored", "three-volumes", "cut-off", "not-gzip"],
)
def test_the_worker_reads_every_aligned_head_that_is_accepted_here(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "head.nii.gz").write_bytes(data)
    try:
        read_aligned(tmp_path / "head.nii.gz")
    except NotAnalysed:
        assert isinstance(read_content("head.nii.gz", data), LeftOut)
    else:
        assert isinstance(read_content("head.nii.gz", data), AlignedFile)


def test_uncompressed_nifti_is_left_out_with_a_remedy() -> None:
    content = read_content("head.nii", b"\x5c\x01\x00\x00" * 200)
    assert isinstance(content, LeftOut)
    assert ".nii.gz" in content.reason


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what it makes of noise
@given(data=st.binary(max_size=600), name=st.sampled_from(["x", "x.dcm", "x.nii.gz", "x.nii"]))
def test_arbitrary_bytes_are_classified(data: bytes, name: str) -> None:
    content = read_content(name, data)
    assert isinstance(content, (LeftOut, InstanceFile))


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(start=st.sampled_from([b"\x08\x00\x05\x00", b"\x02\x00\x00\x00", b"\x00\x08\x00\x05"]), rest=st.binary(max_size=300))
def test_bytes_that_begin_like_dicom_are_classified(start: bytes, rest: bytes) -> None:
    data = start + rest
    assert may_be_useful("x", data)
    content = read_content("x", data)
    assert content is None or content.name == "x" if isinstance(content, LeftOut) else isinstance(content, InstanceFile)


def test_odd_files(shared: Path) -> None:
    found = {}
    for path in sorted((shared / "data" / "odd").glob("*.dcm")):
        content = read_content(path.name, path.read_bytes())
        found[path.stem] = type(content)
    assert found.pop("no_meta") is found.pop("meta_missing_tsyntax") is LeftOut, "damaged, and a fragment without UIDs"
    assert found.pop("no_preamble") is LeftOut, "ACR-NEMA 2.0 knows no UIDs"
    assert set(found.values()) == {InstanceFile}


def test_elements_of_undefined_length_without_end_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversion.elements._MOST_READS", 2000)
    content = read_content("zeros", hostile.meta() + hostile.header() + bytes(100_000))
    assert isinstance(content, LeftOut)
    assert "cannot be read" in content.reason
