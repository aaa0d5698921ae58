"""A conversation with an acceptor of associations, and the bytes that many of them share."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.support.listener import ct_slice, file_bytes
from tests.support.wire import DATA, RELEASE_RQ, associate_rq, command, context, item, pdu, pdv

VERIFICATION = "1.2.840.10008.1.1"
MAX_PDU = 16384
"""The longest P-DATA-TF that both servers are set to take."""
ENDLESS = 0xFFFFFFFF


@dataclass(frozen=True)
class Conversation:
    """A client's half of a conversation.

    Attributes
    ----------
    half_close
        Whether the client closes its half after the last step; if not, only a timer of the server ends the conversation.
    """

    name: str
    steps: tuple[bytes, ...]
    half_close: bool = True


def dimse(
    field: int, sop_class: str, *extra: tuple[int, bytes], data_set: bool = False, message: int = 7, length: bool = True
) -> bytes:
    """A command set with its group length; `extra` elements go where their number puts them, or replace one."""
    uid = sop_class.encode()
    elements = {
        0x0002: uid + b"\0" * (len(uid) % 2),
        0x0100: struct.pack("<H", field),
        0x0110: struct.pack("<H", message),
        0x0800: b"\x00\x00" if data_set else b"\x01\x01",
        **dict(extra),
    }
    body = command(dict(sorted(elements.items())))
    return (command({0: struct.pack("<L", len(body))}) if length else b"") + body


def store(instance: str = "", *extra: tuple[int, bytes], sop_class: str = CTImageStorage) -> bytes:
    """The command set of a C-STORE-RQ."""
    uid = (instance or str(ct_slice(1).SOPInstanceUID)).encode()
    return dimse(1, sop_class, (0x0700, b"\0\0"), (0x1000, uid + b"\0" * (len(uid) % 2)), *extra, data_set=True)


def _data_set() -> bytes:
    whole = file_bytes(ct_slice(1))
    return whole[whole.index(b"\x08\x00\x16\x00") :]


ECHO = dimse(0x30, VERIFICATION)
DATA_SET = _data_set()
BOTH = context(1, VERIFICATION, [ImplicitVRLittleEndian]) + context(3, CTImageStorage, [ExplicitVRLittleEndian])
REQUEST = associate_rq(BOTH)
RELEASE = pdu(RELEASE_RQ, bytes(4))
REJECTED = associate_rq(BOTH, application=b"1.2.3")
USER = item(0x51, struct.pack(">L", MAX_PDU)) + item(0x52, b"1.2.3.4")


def sent(data: bytes, *, is_command: bool = True, last: bool = True, number: int = 1) -> bytes:
    """One P-DATA-TF with one PDV."""
    return pdu(DATA, pdv(data, is_command | last << 1, number))


def pieces(data: bytes, size: int, *, is_command: bool, number: int) -> list[bytes]:
    """PDVs of a message cut into fragments."""
    parts = [data[k : k + size] for k in range(0, len(data), size)]
    return [pdv(part, is_command | (n == len(parts)) << 1, number) for n, part in enumerate(parts, 1)]
