"""Association requests and their acceptance on bytes alone."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from dicom_listener.negotiation import AssociateRequest, Context, Offer, Proposal, decode_request, encode_acceptance
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


def test_unknown_items_are_ignored() -> None:
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


def test_ten_thousand_contexts_are_read_no_further_than_they_can_be() -> None:
    many = b"".join(wire.context(1 + 2 * (n % 128)) for n in range(4000))
    with pytest.raises(PeerFault, match="twice"):
        decode_request(body(wire.associate_rq(many)))


IMPLICIT, EXPLICIT = uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian
MAX_LENGTH = wire.item(0x51, struct.pack(">L", 5000))


def test_everything_that_a_request_says_is_read() -> None:
    contexts = wire.context(1, uid.CTImageStorage, [IMPLICIT, EXPLICIT]) + wire.context(255, COMMITMENT + "\0", [IMPLICIT + "\0"])
    user = MAX_LENGTH + wire.item(0x52, b"1.2.3.4") + role(COMMITMENT, 0, 1) + role("1.2.3", 1, 0)
    request = decode_request(body(wire.associate_rq(contexts, user, called=b" COREWATCH", calling=b"CT 1")))
    assert request == AssociateRequest(
        called_ae_title="COREWATCH",
        calling_ae_title="CT 1",
        application_context="1.2.840.10008.3.1.1.1",
        proposals=(
            Proposal(1, uid.CTImageStorage, (IMPLICIT, EXPLICIT)),
            Proposal(255, COMMITMENT, (IMPLICIT,)),
        ),
        max_pdu=5000,
        roles={COMMITMENT: (False, True), "1.2.3": (True, False)},
        titles=b" COREWATCH      CT 1            " + bytes(32),
        version_supported=True,
    )


def test_a_request_of_another_version_is_not_read_beyond_its_titles() -> None:
    request = decode_request(body(wire.associate_rq(version=2, calling=b"CT"))[:80])
    assert request == AssociateRequest("COREWATCH", "CT", "", (), 0, {}, request.titles, version_supported=False)


def test_every_byte_of_an_acceptance() -> None:
    contexts = wire.context(1, uid.CTImageStorage, [IMPLICIT, EXPLICIT]) + wire.context(3, COMMITMENT, [IMPLICIT])
    contexts += wire.context(5, COMMITMENT, [EXPLICIT]) + wire.context(7, "1.2.3.4", [IMPLICIT])
    roles = role(COMMITMENT, 0, 1) + role(uid.CTImageStorage, 1, 1) + role("1.2.3.4", 1, 1)
    asked = wire.associate_rq(contexts, roles)
    answer, accepted = encode_acceptance(decode_request(body(asked)), OFFERS, max_pdu=65536, implementation=("1.2.3", "NAME"))

    def result(number: int, reason: int, syntax: str) -> bytes:
        return wire.item(0x21, bytes((number, 0, reason, 0)) + wire.item(0x40, syntax.encode()))

    user = wire.item(0x51, struct.pack(">L", 65536)) + wire.item(0x52, b"1.2.3")
    user += role(COMMITMENT, 0, 1) + role(uid.CTImageStorage, 1, 0) + wire.item(0x55, b"NAME")
    items = wire.item(0x10, wire.APPLICATION_CONTEXT)
    items += result(1, 0, EXPLICIT) + result(3, 0, IMPLICIT) + result(5, 4, "") + result(7, 3, "") + wire.item(0x50, user)
    assert answer == wire.pdu(wire.ASSOCIATE_AC, b"\0\1\0\0" + asked[10:74] + items)
    assert accepted == (Context(1, uid.CTImageStorage, EXPLICIT), Context(3, COMMITMENT, IMPLICIT))


@pytest.mark.parametrize(
    ("request_bytes", "problem"),
    [
        (wire.associate_rq()[:73], "too short"),
        (wire.associate_rq()[:74], "proposes no presentation context"),
        (wire.associate_rq(b""), "proposes no presentation context"),
        (wire.associate_rq()[:77], "ends within its header"),
        (wire.associate_rq(user=MAX_LENGTH + b"\x52\0\0"), "ends within its header"),
        (wire.associate_rq()[:-1], "longer than its container"),
        (wire.associate_rq(wire.context(0)), "no valid ID"),
        (wire.associate_rq(wire.context(254)), "no valid ID"),
        (wire.associate_rq(wire.item(0x20, b"\1\0\0")), "no valid ID"),
        (wire.associate_rq(wire.context(3) + wire.context(3)), "twice"),
        (wire.associate_rq(calling=b"\x1b"), "control characters"),
        (wire.associate_rq(called=b"A\nB"), "control characters"),
        (wire.associate_rq(user=wire.item(0x51, struct.pack(">L", 1))), "too short to answer"),
        (wire.associate_rq(user=wire.item(0x51, struct.pack(">L", 7))), "too short to answer"),
        (wire.associate_rq(user=wire.item(0x54, b"\0\3" + b"1.2" + b"\1")), "wrong length"),
        (wire.associate_rq(user=wire.item(0x54, b"\0\3" + b"1.2" + b"\1\1\1")), "wrong length"),
    ],
)
def test_what_makes_a_request_invalid(request_bytes: bytes, problem: str) -> None:
    with pytest.raises(PeerFault, match=problem):
        decode_request(body(request_bytes))


@pytest.mark.parametrize(
    ("user", "max_pdu"),
    [
        (b"", 0),
        (wire.item(0x51, bytes(4)), 0),
        (wire.item(0x51, struct.pack(">L", 8)), 8),
        (wire.item(0x51, struct.pack(">L", 2**32 - 1)), 2**32 - 1),
        (wire.item(0x51, b"\0\1"), 0),
        (wire.item(0x51, bytes(8)), 0),
        (MAX_LENGTH + wire.item(0x51, struct.pack(">L", 9)), 9),
    ],
)
def test_the_longest_pdu_of_the_peer(user: bytes, max_pdu: int) -> None:
    assert decode_request(body(wire.associate_rq(user=user))).max_pdu == max_pdu


def test_a_request_is_valid_at_its_limits() -> None:
    bare = decode_request(body(wire.associate_rq(wire.item(0x20, b"\1\0\0\0"), b"")))
    assert bare.proposals == (Proposal(1, "", ()),)
    assert decode_request(body(wire.associate_rq(user=role("", 1, 1)))).roles == {"": (True, True)}
