"""Protocol Data Units of the DICOM upper layer (PS3.8 9.3): types, P-DATA-TF fragments, encoding of our answers."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

HEADER = struct.Struct(">BxL")
"""PDU type and length of the rest."""
_PDV_HEADER = struct.Struct(">LBB")
_PDV_OVERHEAD = 2
"""Context ID and message control header, which a PDV's length counts (PS3.8 9.3.5.1)."""
_COMMAND, _LAST = 1, 2


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7

    @property
    def label(self) -> str:
        """As the standard writes it, such as A-RELEASE-RQ."""
        return "P-DATA-TF" if self is PduType.DATA else f"A-{self.name.replace('_', '-')}"


class AbortReason(IntEnum):
    """Reason of an A-ABORT by the service provider (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_VALUE = 6


class PeerFault(Exception):
    """The peer violates the protocol: its association is aborted. The text holds nothing that the peer sent."""

    def __init__(self, text: str, reason: AbortReason = AbortReason.INVALID_VALUE) -> None:
        super().__init__(text)
        self.reason = reason


class MessageFault(PeerFault):
    """A valid P-DATA-TF holds an invalid DIMSE message: the user of the upper layer aborts, not its provider (PS3.8 9.2)."""


class Fragment(NamedTuple):
    """One Presentation Data Value (PS3.8 E.2). `data` is valid until the next PDU is read."""

    context_id: int
    command: bool
    last: bool
    data: memoryview


def fragments(body: memoryview) -> list[Fragment]:
    """The fragments in a P-DATA-TF (PS3.8 9.3.5), all of them or none.

    Raises
    ------
    PeerFault
        There is none, or the lengths do not add up.
    """
    found: list[Fragment] = []
    position, end = 0, len(body)
    if not end:
        raise PeerFault("a P-DATA-TF holds no PDV")
    while position < end:
        if end - position < _PDV_HEADER.size:
            raise PeerFault("a P-DATA-TF ends within the header of a PDV")
        length, context_id, control = _PDV_HEADER.unpack_from(body, position)
        start = position + _PDV_HEADER.size
        position = start + length - _PDV_OVERHEAD
        if length < _PDV_OVERHEAD or position > end:
            raise PeerFault("a PDV's length is not that of its PDU")
        found.append(Fragment(context_id, bool(control & _COMMAND), bool(control & _LAST), body[start:position]))
    return found


def data(context_id: int, content: bytes, longest: int, *, command: bool) -> bytes:
    """A whole command set or data set as P-DATA-TF PDUs of at most `longest` bytes each (0: no limit, else 8 or more).

    Fragments have an even length, as `content` has (PS3.8 E.1).
    """
    room = (longest - _PDV_HEADER.size) // 2 * 2 if longest else max(1, len(content))
    pieces = [content[k : k + room] for k in range(0, len(content), room)] or [b""]
    out = bytearray()
    for number, piece in enumerate(pieces, 1):
        control = (_COMMAND if command else 0) | (_LAST if number == len(pieces) else 0)
        out += HEADER.pack(PduType.DATA, len(piece) + _PDV_HEADER.size)
        out += _PDV_HEADER.pack(len(piece) + _PDV_OVERHEAD, context_id, control)
        out += piece
    return bytes(out)


def reject(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def release_response() -> bytes:
    """A-RELEASE-RP (PS3.8 9.3.7)."""
    return HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4)


def abort(reason: AbortReason | None = None) -> bytes:
    """A-ABORT (PS3.8 9.3.8): by the service provider with its reason, or by the service user (None)."""
    return HEADER.pack(PduType.ABORT, 4) + (bytes(4) if reason is None else bytes((0, 0, 2, reason)))
