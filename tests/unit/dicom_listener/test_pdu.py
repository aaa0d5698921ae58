"""PDUs, association requests and command sets, on bytes alone."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.pdu import A_ASSOCIATE_AC, P_DATA_TF
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from dicom_listener import pdu
from dicom_listener.dimse import Command, Tag, encode, response
from dicom_listener.negotiation import AssociateRequest, Offer, decode_request, encode_acceptance
from dicom_listener.pdu import PeerFault
from tests.support import wire

COMMITMENT = "1.2.840.10008.1.20.1"
OFFERS = {
    uid.CTImageStorage: Offer(uid.CTImageStorage, (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)),
    COMMITMENT: Offer(COMMITMENT, (uid.ImplicitVRLittleEndian,), peer_may_be_scp=True),
}


def body(request: bytes) -> memoryview:
    return memoryview(request)[6:]


def accept(request: AssociateRequest) -> A_ASSOCIATE_AC:
    """Our answer, as pynetdicom reads it."""
    answer, _ = encode_acceptance(request, OFFERS, max_pdu=65536, implementation=("1.2.3", "NAME"))
    decoded = A_ASSOCIATE_AC()
    decoded.decode(answer)
    return decoded


def role(sop_class: str, scu: int, scp: int) -> bytes:
    return wire.item(0x54, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes((scu, scp)))


@given(content=st.binary(max_size=300), longest=st.sampled_from([0, 8, 20, 64, 1000]), command=st.booleans())
def test_what_is_sent_in_pieces_comes_whole(content: bytes, longest: int, command: bool) -> None:
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


@given(data=st.binary(max_size=300), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_any_bytes_are_a_request_or_a_fault(data: bytes, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(wire.associate_rq(user=data)[6:])
    for place, value in flips:
        damaged[place % len(damaged)] = value
    for candidate in (data, bytes(damaged)):
        try:
            request = decode_request(memoryview(candidate))
        except PeerFault:
            continue
        answer, contexts = encode_acceptance(request, OFFERS, max_pdu=65536, implementation=("1.2.3", "NAME"))
        assert len(contexts) <= len(request.proposals) <= 128
        assert struct.unpack_from(">BxL", answer)[1] == len(answer) - 6


def test_the_answer_is_what_the_standard_asks_for() -> None:
    contexts = wire.context(1, uid.CTImageStorage, [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
    contexts += wire.context(3, uid.CTImageStorage, [uid.MPEG4HP41]) + wire.context(5, "1.2.3.4")
    answer = accept(decode_request(body(wire.associate_rq(contexts, calling=b"SCANNER"))))
    results = {c.context_id: (c.result, c.transfer_syntax) for c in answer.presentation_context}
    assert results[1] == (0, uid.ExplicitVRLittleEndian)
    assert (results[3][0], results[5][0]) == (4, 3)
    assert (answer.reserved_aet, answer.reserved_aec) == ("COREWATCH", "SCANNER")
    assert answer.application_context_name == wire.APPLICATION_CONTEXT.decode()
    information = {type(i).__name__: i for i in answer.user_information.user_data}
    assert information["MaximumLengthSubItem"].maximum_length_received == 65536
    assert information["ImplementationClassUIDSubItem"].implementation_class_uid == "1.2.3"


@pytest.mark.parametrize(("wanted", "granted"), [((0, 1), (False, True)), ((1, 1), (True, True)), ((1, 0), (True, False))])
def test_roles_are_granted_where_a_service_offers_them(wanted: tuple[int, int], granted: tuple[bool, bool]) -> None:
    contexts = wire.context(1) + wire.context(3, COMMITMENT, [uid.ImplicitVRLittleEndian])
    roles = role(COMMITMENT, *wanted) + role(uid.CTImageStorage, 0, 1) + role("1.2.3", 1, 1)
    answer = accept(decode_request(body(wire.associate_rq(contexts, roles))))
    found = {}
    for primitive in answer.to_primitive().user_information:
        if isinstance(primitive, SCP_SCU_RoleSelectionNegotiation):
            found[primitive.sop_class_uid] = (primitive.scu_role, primitive.scp_role)
    assert found[COMMITMENT] == granted
    assert "1.2.3" not in found
    assert found.get(uid.CTImageStorage, (False, False)) == (False, False)


def test_unknown_items_are_passed_over() -> None:
    contexts = wire.item(0x99, b"?") + wire.context(1)
    request = decode_request(body(wire.associate_rq(contexts, wire.item(0x77, b"??") + wire.item(0x51, struct.pack(">L", 5000)))))
    assert (len(request.proposals), request.max_pdu) == (1, 5000)


@pytest.mark.parametrize(
    "request_bytes",
    [
        wire.associate_rq(calling=b"SCAN\x1bNER"),
        wire.associate_rq(called=b"CORE\nWATCH"),
        wire.associate_rq(wire.context(2)),
        wire.associate_rq(wire.context(1) + wire.context(1)),
        wire.associate_rq(wire.item(0x20, b"\x01")),
        wire.associate_rq(wire.item(0x20, bytes(8), length=5000)),
        wire.associate_rq(user=wire.item(0x51, struct.pack(">L", 7))),
        wire.associate_rq(user=wire.item(0x54, b"\xff\xff1.2\x01\x01")),
        wire.associate_rq()[:60],
    ],
)
def test_requests_that_contradict_themselves(request_bytes: bytes) -> None:
    with pytest.raises(PeerFault):
        decode_request(body(request_bytes))


@pytest.mark.parametrize(
    "title", [b"SCANNER", b" SCANNER ", b"SCANNER\0", b"SCANNER" + bytes(9), b"SCANNER\0left", b"SCANNER \0  "]
)
def test_a_title_ends_at_its_padding(title: bytes) -> None:
    request = decode_request(body(wire.associate_rq(calling=title)))
    assert request.calling_ae_title == "SCANNER"
    assert request.titles[16:32] == title.ljust(16), "what the answer repeats is as it was received"


@pytest.mark.parametrize(("version", "supported"), [(1, True), (3, True), (0xFFFF, True), (0, False), (2, False), (0xFFFE, False)])
def test_of_the_protocol_version_only_bit_0_counts(version: int, supported: bool) -> None:
    request = decode_request(body(wire.associate_rq(version=version)))
    assert request.version_supported == supported
    assert bool(request.proposals) == supported, "another version may have other items"


@pytest.mark.parametrize("longest", [8, 9, 16, 23, 128, 1023])
def test_a_peer_that_takes_little_at_a_time_is_answered_in_pieces(longest: int) -> None:
    request = decode_request(body(wire.associate_rq(user=wire.item(0x51, struct.pack(">L", longest)))))
    whole = encode({Tag.STATUS: 0xA700, Tag.ERROR_COMMENT: "full"})
    sent = memoryview(pdu.data(1, whole, request.max_pdu, command=True))
    pieces = []
    while sent:
        kind, length = pdu.HEADER.unpack_from(sent)
        assert (kind, length <= longest) == (pdu.PduType.DATA, True)
        pieces += pdu.fragments(sent[6 : 6 + length])
        sent = sent[6 + length :]
    assert b"".join(p.data for p in pieces) == whole
    assert [p.last for p in pieces] == [False] * (len(pieces) - 1) + [True]
    assert {len(p.data) % 2 for p in pieces} == {0}


def test_ten_thousand_contexts_are_read_no_further_than_they_can_be() -> None:
    many = b"".join(wire.context(1 + 2 * (n % 128)) for n in range(4000))
    with pytest.raises(PeerFault, match="twice"):
        decode_request(body(wire.associate_rq(many)))


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
    answer = response(request, {Tag.STATUS: 0xA700, Tag.ERROR_COMMENT: "full"})
    message = C_STORE_RSP()
    transport = P_DATA_TF()
    transport.decode(pdu.data(1, answer, 0, command=True))
    message.decode_msg(transport.to_primitive())
    primitive = message.message_to_primitive()
    assert (primitive.MessageIDBeingRespondedTo, primitive.Status, primitive.ErrorComment) == (7, 0xA700, "full")
    assert (primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID) == (uid.CTImageStorage, "1.2.3")


@pytest.mark.parametrize("hostile", [b"../../etc/passwd", b"1.2\n3", b"1" * 65, b"1.2/3", b"\xff\xfe"])
def test_what_is_no_uid_is_not_sent_back(hostile: bytes) -> None:
    answer = response(Command.decode(wire.store_command(hostile)), {Tag.STATUS: 0xC000})
    assert hostile not in answer


def test_the_group_length_counts_what_follows() -> None:
    encoded = encode({Tag.STATUS: 0, Tag.AFFECTED_SOP_CLASS_UID: "1.2.3"})
    assert int.from_bytes(encoded[8:12], "little") == len(encoded) - 12
