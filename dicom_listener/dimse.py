"""Command sets of DIMSE messages (PS3.7 6.3, Annex E): Implicit VR Little Endian, group 0000 only."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from dicom_listener.pdu import MessageFault

LONGEST_COMMAND_SET = 65_536
"""Bytes; the longest of the standard, a C-MOVE-RQ, has a few hundred."""

_ELEMENT = struct.Struct("<HHL")
_UID = re.compile(r"[0-9][0-9.]{0,63}")
_INSTANCE_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")


class Tag(IntEnum):
    """Elements of group 0000 (PS3.7 Table E.1-1), by element number."""

    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_RESPONDED_TO = 0x0120
    DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008


class CommandField(IntEnum):
    """Requests that are served (PS3.7 Table E.1-1); a response has bit 8000 set."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    C_CANCEL_RQ = 0x0FFF
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130


RESPONSE = 0x8000
NO_DATA_SET = 0x0101
_HAS_DATA_SET = 0x0001

Value = int | str

_NAMES = (
    (Tag.AFFECTED_SOP_CLASS_UID, Tag.REQUESTED_SOP_CLASS_UID),
    (Tag.AFFECTED_SOP_INSTANCE_UID, Tag.REQUESTED_SOP_INSTANCE_UID),
)
"""A response calls affected what an N-ACTION or N-SET calls requested."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command set as received; nothing in it is verified.

    Attributes
    ----------
    elements
        Element number -> value as received.
    """

    elements: Mapping[int, bytes]

    @classmethod
    def decode(cls, data: bytes) -> Command:
        """Decode a command set.

        Raises
        ------
        MessageFault
            It is malformed, or lacks an element that a response needs: command field, message ID, data set type.
        """
        elements: dict[int, bytes] = {}
        position = 0
        while position < len(data):
            if len(data) - position < _ELEMENT.size:
                raise MessageFault("a command set ends within an element")
            group, number, length = _ELEMENT.unpack_from(data, position)
            start = position + _ELEMENT.size
            position = start + length
            if group or position > len(data):
                raise MessageFault("a command set has an element of another group, or one longer than itself")
            elements[number] = data[start:position]
        command = cls(elements)
        needed: tuple[Tag, ...] = (Tag.COMMAND_FIELD, Tag.DATA_SET_TYPE, Tag.MESSAGE_ID)
        if command.field & RESPONSE or command.field == CommandField.C_CANCEL_RQ:
            needed = needed[:2]
        if any(command.number(tag) is None for tag in needed):
            raise MessageFault("a command set lacks command field, message ID or data set type")
        return command

    @property
    def field(self) -> int:
        """Command Field (0000,0100)."""
        return self.number(Tag.COMMAND_FIELD) or 0

    @property
    def message_id(self) -> int:
        """Message ID (0000,0110)."""
        return self.number(Tag.MESSAGE_ID) or 0

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows (0000,0800)."""
        return self.number(Tag.DATA_SET_TYPE) != NO_DATA_SET

    def number(self, tag: int) -> int | None:
        """The value of a US element; None if it is missing or has another length than two bytes."""
        value = self.elements.get(tag, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else None

    def uid(self, tag: int) -> str:
        """The value of a UI element as text, not validated; empty if it is missing."""
        return self.elements.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")


def encode_response(request: Command, elements: Mapping[int, Value], *, data_set: bool = False) -> bytes:
    """Encode the command set of a response (PS3.7 9.3, 10.3); `elements` are its status and further elements."""
    answer: dict[int, Value] = {Tag.COMMAND_FIELD: request.field | RESPONSE, Tag.MESSAGE_ID_RESPONDED_TO: request.message_id}
    for affected, requested in _NAMES:
        uid = request.uid(affected) or request.uid(requested)
        if is_uid(uid):
            answer[affected] = uid
    return encode({**answer, **elements}, data_set=data_set)


def is_uid(text: str) -> bool:
    """Whether this has the characters of a UID, 64 at most (PS3.5 9.1)."""
    return _UID.fullmatch(text) is not None


def is_instance_uid(text: str) -> bool:
    """Whether this can identify an instance: a UID, or what some senders write instead, with letters or up to 128 characters."""
    return _INSTANCE_UID.fullmatch(text) is not None


def encode(elements: Mapping[int, Value], *, data_set: bool = False) -> bytes:
    """Encode a command set of US elements (int), and UI and LO elements (str), with its group length."""
    whole = {**elements, Tag.DATA_SET_TYPE: _HAS_DATA_SET if data_set else NO_DATA_SET}
    body = b"".join(_element(number, whole[number]) for number in sorted(whole))
    return _ELEMENT.pack(0, Tag.GROUP_LENGTH, 4) + len(body).to_bytes(4, "little") + body


def _element(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        content = value.to_bytes(2, "little")
    else:
        content = value.encode("ascii")
        if len(content) % 2:
            content += b" " if number == Tag.ERROR_COMMENT else b"\0"
    return _ELEMENT.pack(0, number, len(content)) + content
