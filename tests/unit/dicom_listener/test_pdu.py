"""PDUs on bytes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import P_DATA_TF

from dicom_listener import pdu
from dicom_listener.dimse import Tag, encode
from dicom_listener.pdu import PeerFault
from tests.support import wire


@given(content=st.binary(max_size=300), longest=st.sampled_from([0, 8, 20, 64, 1000]), command=st.booleans())
def test_a_message_in_fragments_is_reassembled(content: bytes, longest: int, command: bool) -> None:
    sent = pdu.data(3, content, longest, command=command)
    found, position = [], 0
    while position < len(sent):
        _, length = pdu.HEADER.unpack_from(sent, position)
        assert longest == 0 or length <= longest
        found += list(pdu.fragments(memoryview(sent)[position + 6 : position + 6 + length]))
        P_DATA_TF().decode(sent[position : position + 6 + length])
        position += 6 + length
    assert b"".join(f.data for f in found) == content
    assert [f.last for f in found] == [False] * (len(found) - 1) + [True]
    assert {(f.context_id, f.command) for f in found} == {(3, command)}


@given(data=st.binary(max_size=200))
def test_any_bytes_are_fragments_or_a_fault(data: bytes) -> None:
    try:
        found = list(pdu.fragments(memoryview(data)))
    except PeerFault:
        return
    assert sum(len(f.data) + 6 for f in found) == len(data)


@pytest.mark.parametrize("longest", [8, 9, 16, 23, 128, 1023])
def test_a_peer_with_a_short_maximum_length_is_answered_in_fragments(longest: int) -> None:
    whole = encode({Tag.STATUS: 0xA700, Tag.ERROR_COMMENT: "full"})
    sent = memoryview(pdu.data(1, whole, longest, command=True))
    pieces = []
    while sent:
        kind, length = pdu.HEADER.unpack_from(sent)
        assert (kind, length <= longest) == (pdu.PduType.DATA, True)
        pieces += pdu.fragments(sent[6 : 6 + length])
        sent = sent[6 + length :]
    assert b"".join(p.data for p in pieces) == whole
    assert [p.last for p in pieces] == [False] * (len(pieces) - 1) + [True]
    assert {len(p.data) % 2 for p in pieces} == {0}


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\0",
        wire.pdv(b"data", 2)[:-1],
        wire.pdv(b"data", 2) + b"\0\0\0\0\0",
        wire.pdv(b"data", 2, length=0),
        wire.pdv(b"data", 2, length=1),
        wire.pdv(b"data", 2, length=7),
    ],
)
def test_a_damaged_p_data_delivers_nothing(damaged: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        pdu.fragments(memoryview(wire.pdv(b"whole", 3) + damaged if damaged else damaged))
    assert caught.value.reason is pdu.AbortReason.INVALID_VALUE


def test_of_the_control_header_two_bits_count() -> None:
    found = [pdu.fragments(memoryview(wire.pdv(b"", control)))[0] for control in (0, 1, 2, 3, 0xFC, 0xFF)]
    assert [(f.command, f.last) for f in found] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
        (False, False),
        (True, True),
    ]
