"""Command sets on bytes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.pdu import P_DATA_TF

from dicom_listener import pdu
from dicom_listener.dimse import Command, Tag, encode, encode_response
from dicom_listener.pdu import PeerFault
from tests.support import wire


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_command_set_or_a_fault(data: bytes) -> None:
    try:
        command = Command.decode(data)
    except PeerFault:
        return
    assert command.number(Tag.COMMAND_FIELD) is not None


@pytest.mark.parametrize("missing", ["field", "message", "data_set"])
def test_a_command_set_without_what_an_answer_needs(missing: str) -> None:
    with pytest.raises(PeerFault):
        Command.decode(wire.store_command(b"1.2", **{missing: None}))


def test_a_response_is_what_pynetdicom_reads() -> None:
    request = Command.decode(wire.store_command(b"1.2.3\0"))
    answer = encode_response(request, {Tag.STATUS: 0xA700, Tag.ERROR_COMMENT: "full"})
    message = C_STORE_RSP()
    transport = P_DATA_TF()
    transport.decode(pdu.data(1, answer, 0, command=True))
    message.decode_msg(transport.to_primitive())
    primitive = message.message_to_primitive()
    assert (primitive.MessageIDBeingRespondedTo, primitive.Status, primitive.ErrorComment) == (7, 0xA700, "full")
    assert (primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID) == (uid.CTImageStorage, "1.2.3")


@pytest.mark.parametrize("hostile", [b"../../etc/passwd", b"1.2\n3", b"1" * 65, b"1.2/3", b"\xff\xfe"])
def test_an_invalid_uid_is_not_sent_back(hostile: bytes) -> None:
    answer = encode_response(Command.decode(wire.store_command(hostile)), {Tag.STATUS: 0xC000})
    assert hostile not in answer


def test_the_group_length_counts_what_follows() -> None:
    encoded = encode({Tag.STATUS: 0, Tag.AFFECTED_SOP_CLASS_UID: "1.2.3"})
    assert int.from_bytes(encoded[8:12], "little") == len(encoded) - 12
