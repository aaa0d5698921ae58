"""Classification of a dropped file: a DICOM instance, an aligned head, or neither, with the reason."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from conversion.elements import FewReads, deflated_from
from conversion.nifti import check_aligned
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from corewatch.units import MIB
from daemon.watch.scan import DropLimits

HEAD_BYTES = 132
"""First bytes that classify a file: DICOM's preamble and prefix (PS3.10 7.1)."""
ALIGNED_SUFFIX = ".nii.gz"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OTHER_ARCHIVES = (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""First bytes of RAR, 7z, gzip, bzip2, xz and Zstandard."""
_SOP_INSTANCE_UID = 0x00080018
_UIDS_WITHIN = 65_536
"""Bytes of a deflated data set that are inflated: its UIDs are among its first few elements."""


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """A DICOM instance: the bytes of a DICOM file (PS3.10)."""

    sop_instance_uid: str
    chunks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AlignedFile:
    """A head on the network's grid: the bytes of a `.nii.gz`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not analysed, and why. The reason holds no file name."""

    name: str
    reason: str


def may_be_useful(name: str, head: bytes) -> bool:
    """Whether a file is read completely, decided by its name and first `HEAD_BYTES` bytes."""
    return head[128:132] == b"DICM" or name.lower().endswith(ALIGNED_SUFFIX) or _starts_like_bare_dicom(head)


def read_content(name: str, data: bytes) -> InstanceFile | AlignedFile | LeftOut | None:
    """Classify a file; None for a DICOMDIR, which is only an index of other files."""
    if name.lower().endswith(ALIGNED_SUFFIX):
        reason = aligned_problem(data)
        return AlignedFile(data) if reason is None else LeftOut(name, reason)
    if not may_be_useful(name, data[:HEAD_BYTES]):
        return LeftOut(name, not_dicom_reason(name, data[:HEAD_BYTES]))
    return _read_dicom(name, data)


def size_problem(name: str, size: int, limits: DropLimits) -> str | None:
    """Why a file of `size` bytes is too large to be read; None where it is not."""
    is_aligned = name.lower().endswith(ALIGNED_SUFFIX)
    largest = limits.aligned_bytes if is_aligned else limits.instance_bytes
    if size <= largest:
        return None
    return f"The file is too large: it has {size / MIB:,.0f} MB, and {largest / MIB:,.0f} MB are allowed."


def not_dicom_reason(name: str, head: bytes) -> str:
    """Why a file that is neither DICOM nor aligned NIfTI is left out, by its name and first `HEAD_BYTES` bytes."""
    if head.startswith(_ZIP):
        return "A zip within a zip is not unpacked; drop it by itself."
    if head.startswith(_OTHER_ARCHIVES):
        return "Of archives only zip is unpacked; drop the files themselves, or a zip of them."
    if name.lower().endswith((".nii", ".hdr", ".img", ".nrrd", ".mha")):
        return f"Only NIfTI files that are compressed (*{ALIGNED_SUFFIX}) and on the network's grid can be taken; else send DICOM."
    return "The file is not DICOM."


def aligned_problem(data: bytes) -> str | None:
    """Why the bytes of a `.nii.gz` are not an aligned head; None where they are one.

    The check is the one of the stage that reads the file, so that no file passes here and fails there.
    """
    try:
        check_aligned(data)
    except NotAnalysed as error:
        # the sentence for unreadable files says DICOM
        return error.detail if error.reason is Reason.UNREADABLE else f"{error.reason.sentence} {error.detail}"
    return None


def _starts_like_bare_dicom(head: bytes) -> bool:
    """A data set without preamble begins with an element of group 0002 or 0008, in either byte order."""
    return (
        head[:4] in {b"\x02\x00\x00\x00", b"\x02\x00\x01\x00", b"\x02\x00\x02\x00"}
        or (head[:2] == b"\x08\x00" and head[2:4] <= b"\x20\x00")
        or (head[:2] == b"\x00\x08" and head[2:3] == b"\x00")
    )


def _read_dicom(name: str, data: bytes) -> InstanceFile | LeftOut | None:
    try:
        dataset = _deflated_start(data)
        if dataset is None:
            tags = ["SOPClassUID", "SOPInstanceUID"]
            dataset = dcmread(FewReads(BytesIO(data)), force=True, specific_tags=tags, stop_before_pixels=True)
        meta = dataset.file_meta
        sop_class = str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
        sop_instance = str(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or "")
        if sop_class == MediaStorageDirectoryStorage:
            return None
        if not sop_instance or not sop_class:
            return LeftOut(name, "The file has no SOP Instance UID or SOP Class UID.")
        return InstanceFile(sop_instance, (*_missing_header(dataset, data, sop_class, sop_instance), data))
    except Exception as error:  # pydicom raises many types on arbitrary bytes: this file is unreadable, the others are still read
        return LeftOut(name, f"The file cannot be read as DICOM ({type(error).__name__}).")


def _deflated_start(data: bytes) -> Dataset | None:
    """The first elements of a deflated file (PS3.5 A.5) with its meta header; None where it is not deflated.

    pydicom would inflate all of it, and half a megabyte inflates to any size.
    """
    stream = BytesIO(data)
    begin = deflated_from(stream)
    if begin is None:
        return None
    stream.seek(132 if data[128:132] == b"DICM" else 0)
    meta = FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2))
    start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(data)[begin:], _UIDS_WITHIN)
    dataset = read_dataset(BytesIO(start), False, True, stop_when=lambda tag, _vr, _length: tag > _SOP_INSTANCE_UID)
    dataset.file_meta = meta
    return dataset


def _missing_header(dataset: Any, data: bytes, sop_class: str, sop_instance: str) -> tuple[bytes, ...]:
    """What must precede the bytes to make a DICOM file: nothing, a preamble, or also File Meta Information (PS3.10 7.1)."""
    if data[128:132] == b"DICM":
        return ()
    preamble = bytes(128) + b"DICM"
    if len(dataset.file_meta):
        return (preamble,)
    implicit, little_endian = dataset.original_encoding
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_instance
    plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta.TransferSyntaxUID = plain if little_endian else ExplicitVRBigEndian
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return (preamble, buffer.getvalue())
