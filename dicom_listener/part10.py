"""PS3.10 file header for a received data set, and a check of its first elements; the data set itself is not decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from corewatch.identity import derived_uid
from dicom_listener.dimse import is_instance_uid, is_uid
from dicom_listener.storage_status import NO_UID, NOT_DICOM, WRONG_SOP_CLASS, WRONG_SOP_INSTANCE, StorageStatus

_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_DELIMITERS = 0xFFFE
_SEQUENCE_DELIMITATION = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Value representations with a length of four bytes (PS3.5 Table 7.1-1)."""
HEAD_BYTES = 65_536
"""Bytes of a data set that are checked: (0008,0018) is one of its first elements, since elements are sorted by tag."""

IMPLEMENTATION_CLASS_UID = derived_uid("corewatch", None, "implementation-class")
IMPLEMENTATION_VERSION = "COREWATCH"
"""Implementation Class UID and Version Name. No version number: an instance sent again after an update must get the same bytes."""

_SHORT_ELEMENT = struct.Struct("<HH2sH")
_LONG_ELEMENT = struct.Struct("<HH2s2xL")


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """The identifiers in a C-STORE-RQ, not verified, and the transfer syntax of its presentation context."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def check_instance(request: StoreRequest, data: memoryview) -> StorageStatus | None:
    """Return None if the data set is the instance that the request announces, else the status to return.

    `data` is its beginning: `HEAD_BYTES`, or all of it.
    """
    if not is_uid(request.sop_class_uid) or not is_instance_uid(request.sop_instance_uid):
        return NO_UID
    try:
        found = _first_uids(data, request.transfer_syntax_uid)
    except (struct.error, ValueError, zlib.error):
        return NOT_DICOM
    sop_class, sop_instance = found.get(_SOP_CLASS_UID, ""), found.get(_SOP_INSTANCE_UID, "")
    if not sop_class or not sop_instance:
        return NO_UID if found else NOT_DICOM
    if sop_class != request.sop_class_uid:
        return WRONG_SOP_CLASS
    return None if sop_instance == request.sop_instance_uid else WRONG_SOP_INSTANCE


def file_header(request: StoreRequest) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1) that make the data set a file.

    An instance gets the same bytes whichever peer sends it, so that a re-send is recognised. Encoded by hand: seven fixed elements
    for every instance, where building them as a pydicom data set costs more than all other work of the listener.
    """
    elements = b"".join(
        (
            _LONG_ELEMENT.pack(0x0002, 0x0001, b"OB", 2) + b"\x00\x01",  # File Meta Information Version
            _element(0x0002, b"UI", request.sop_class_uid.encode()),  # Media Storage SOP Class UID
            _element(0x0003, b"UI", request.sop_instance_uid.encode()),  # Media Storage SOP Instance UID
            _element(0x0010, b"UI", request.transfer_syntax_uid.encode()),  # Transfer Syntax UID
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION.encode()),
        )
    )
    group_length = _element(0x0000, b"UL", len(elements).to_bytes(4, "little"))
    return bytes(128) + b"DICM" + group_length + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """An element of group 0002, Explicit VR Little Endian, padded to even length (PS3.5 6.2, 7.1.2)."""
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\x00"
    return _SHORT_ELEMENT.pack(0x0002, number, vr, len(value)) + value


def _first_uids(data: memoryview, transfer_syntax_uid: str) -> dict[int, str]:
    """(0008,0016) and (0008,0018), as text, by tag.

    Decoded by hand: a library quotes odd values in its warnings, and this runs for every instance. Sequences before these elements
    (Language Code Sequence) are skipped, however deeply they are nested.

    Raises
    ------
    struct.error, ValueError, zlib.error
        The bytes end too early, or are not data elements.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, HEAD_BYTES)
    else:
        head = bytes(data[:HEAD_BYTES])
    order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
    implicit = [transfer_syntax_uid == ImplicitVRLittleEndian]
    """For the data set and each open sequence of undefined length."""
    found: dict[int, str] = {}
    position = 0
    while position < len(head):
        group, number = struct.unpack_from(f"{order}HH", head, position)
        tag = group << 16 | number
        if tag > _SOP_INSTANCE_UID and len(implicit) == 1:
            break
        vr, length, position = _length(head, position + 4, order, implicit=implicit[-1] or group == _DELIMITERS)
        if tag == _SEQUENCE_DELIMITATION and len(implicit) > 1:
            implicit.pop()
        elif length != _UNDEFINED:
            if tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID) and len(implicit) == 1:
                found[tag] = head[position : position + length].rstrip(b"\0 ").decode("ascii", "replace")
            position += length
        elif group != _DELIMITERS:
            implicit.append(implicit[-1] or vr == b"UN")  # PS3.5 6.2.2: such a UN is a sequence in Implicit VR
    return found


def _length(head: bytes, position: int, order: str, *, implicit: bool) -> tuple[bytes, int, int]:
    """VR, length and position of the value (PS3.5 7.1)."""
    if implicit:
        return b"", *struct.unpack_from(f"{order}L", head, position), position + 4
    vr = head[position : position + 2]
    if not vr.isalpha():
        raise ValueError("no value representation")
    if vr in _LONG_VRS:
        return vr, *struct.unpack_from(f"{order}L", head, position + 4), position + 8
    return vr, *struct.unpack_from(f"{order}H", head, position + 2), position + 4
