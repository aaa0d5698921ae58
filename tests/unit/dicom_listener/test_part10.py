from __future__ import annotations

import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, uid
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_listener.part10 import StoreRequest, check_instance, file_header
from dicom_listener.storage_status import NO_UID, NOT_DICOM, WRONG_SOP_CLASS, WRONG_SOP_INSTANCE
from tests.support.listener import ct_slice

UIDS = st.lists(st.integers(1, 2**40).map(str), min_size=2, max_size=4).map(".".join)
UNCOMPRESSED = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
]


def encode(transfer_syntax: str, **changes: str) -> bytes:
    """The data set of a slice as it travels, without file meta."""
    dataset = ct_slice()
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return encoded(dataset, transfer_syntax)


def encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    """A data set as it travels."""
    del dataset.file_meta
    buffer = DicomBytesIO()
    buffer.is_little_endian = transfer_syntax != uid.ExplicitVRBigEndian
    buffer.is_implicit_VR = transfer_syntax == uid.ImplicitVRLittleEndian
    write_dataset(buffer, dataset)
    if transfer_syntax != uid.DeflatedExplicitVRLittleEndian:
        return buffer.getvalue()
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(buffer.getvalue()) + deflate.flush()


def request(transfer_syntax: str = uid.ExplicitVRLittleEndian, **changes: str) -> StoreRequest:
    dataset = ct_slice()
    fields = {"sop_class_uid": str(dataset.SOPClassUID), "sop_instance_uid": str(dataset.SOPInstanceUID)}
    return StoreRequest(**{**fields, "transfer_syntax_uid": transfer_syntax, **changes})


@pytest.mark.parametrize("transfer_syntax", UNCOMPRESSED)
def test_a_valid_instance_passes_in_every_encoding(transfer_syntax: str) -> None:
    assert check_instance(request(transfer_syntax), memoryview(encode(transfer_syntax))) is None


@pytest.mark.parametrize("transfer_syntax", UNCOMPRESSED)
def test_header_and_data_set_are_a_dicom_file(transfer_syntax: str) -> None:
    dataset = dcmread(BytesIO(file_header(request(transfer_syntax)) + encode(transfer_syntax)))
    assert dataset.file_meta.TransferSyntaxUID == transfer_syntax
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == ct_slice().SOPInstanceUID
    assert dataset.PixelData == ct_slice().PixelData


@given(sop_class=UIDS, sop_instance=UIDS, transfer_syntax=UIDS)
def test_the_header_is_read_back_as_written(sop_class: str, sop_instance: str, transfer_syntax: str) -> None:
    header = file_header(StoreRequest(sop_class, sop_instance, transfer_syntax))
    meta = dcmread(BytesIO(header), defer_size=None).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (sop_class, sop_instance)
    assert meta.TransferSyntaxUID == transfer_syntax
    assert meta.FileMetaInformationGroupLength == len(header) - 128 - 4 - 12
    assert header == file_header(StoreRequest(sop_class, sop_instance, transfer_syntax))


@pytest.mark.parametrize("bad", ["", "../../etc/passwd", "1.2\n", "1.2.3 ", "1" * 129, "1.2.ü"])
def test_requests_without_valid_uids_are_refused(bad: str) -> None:
    data = memoryview(encode(uid.ExplicitVRLittleEndian))
    assert check_instance(request(sop_instance_uid=bad), data) is NO_UID
    assert check_instance(request(sop_class_uid=bad), data) is NO_UID


@pytest.mark.parametrize("odd", ["1" * 65, "9." * 63 + "99", "1.2.3a", "CT-1.2_x"])
def test_instances_that_are_only_oddly_named_are_accepted_as_from_a_folder(odd: str) -> None:
    """Real senders write UIDs that are too long or have letters."""
    syntax = uid.ExplicitVRLittleEndian
    assert check_instance(request(sop_instance_uid=odd), memoryview(encode(syntax, SOPInstanceUID=odd))) is None
    assert check_instance(request(sop_class_uid=odd), memoryview(encode(syntax))) is NO_UID


def test_contradictions_between_request_and_data_set_are_refused() -> None:
    data = memoryview(encode(uid.ExplicitVRLittleEndian))
    assert check_instance(request(sop_class_uid=uid.MRImageStorage), data) is WRONG_SOP_CLASS
    assert check_instance(request(sop_instance_uid="1.2.3"), data) is WRONG_SOP_INSTANCE


def test_a_data_set_without_uids_is_refused() -> None:
    syntax = uid.ExplicitVRLittleEndian
    assert check_instance(request(), memoryview(encode(syntax, SOPInstanceUID=""))) is NO_UID
    assert check_instance(request(), memoryview(encode(syntax, SOPClassUID=""))) is NO_UID


def test_the_wrong_encoding_is_refused() -> None:
    deflated, big = uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian
    assert check_instance(request(deflated), memoryview(encode(uid.ExplicitVRLittleEndian))) is NOT_DICOM
    assert check_instance(request(big), memoryview(encode(uid.ImplicitVRLittleEndian))) is NOT_DICOM
    assert check_instance(request(), memoryview(b"")) is NOT_DICOM


@given(data=st.binary(max_size=400), transfer_syntax=st.sampled_from(UNCOMPRESSED))
def test_any_bytes_get_an_answer(data: bytes, transfer_syntax: str) -> None:
    assert check_instance(request(transfer_syntax), memoryview(data)) in {NOT_DICOM, NO_UID, WRONG_SOP_CLASS, WRONG_SOP_INSTANCE}


@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")
def test_only_the_beginning_of_a_bomb_is_inflated() -> None:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(bytes(20_000_000)) + deflate.flush()
    assert len(bomb) < 100_000
    assert check_instance(request(uid.DeflatedExplicitVRLittleEndian), memoryview(bomb)) is not None


@pytest.mark.parametrize("transfer_syntax", UNCOMPRESSED)
@pytest.mark.parametrize("undefined", [True, False])
def test_a_sequence_before_the_uids_is_skipped(transfer_syntax: str, undefined: bool) -> None:
    dataset = ct_slice()
    inner, outer = Dataset(), Dataset()
    # the same elements within the sequence are not the instance's
    inner.SOPClassUID, inner.SOPInstanceUID = "1.2.3", "1.2.3.4"
    outer.CodeValue, outer.EquivalentCodeSequence = "en", [inner, inner]
    outer.SOPInstanceUID = "1.2.3.5"
    dataset.LanguageCodeSequence = [outer]
    for element in (dataset["LanguageCodeSequence"], outer["EquivalentCodeSequence"]):
        element.is_undefined_length = undefined
        for item in element.value:
            item.is_undefined_length_sequence_item = undefined
    assert check_instance(request(transfer_syntax), memoryview(encoded(dataset, transfer_syntax))) is None


@given(data=st.binary(max_size=400), transfer_syntax=st.sampled_from(UNCOMPRESSED), keep=st.integers(0, 200))
def test_a_damaged_instance_gets_an_answer(data: bytes, transfer_syntax: str, keep: int) -> None:
    for candidate in (data, encode(transfer_syntax)[:keep] + data):
        status = check_instance(request(transfer_syntax), memoryview(candidate))
        assert status is None or not status.success
