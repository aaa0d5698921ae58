"""The listener's negotiation beside pynetdicom's: the same request is read alike, and the same contexts are accepted.

Every byte is made and read by the other side: pynetdicom encodes the A-ASSOCIATE-RQ, and pynetdicom decodes our A-ASSOCIATE-AC.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from dicom_listener.negotiation import ACCEPTED, AssociateRequest, Offer, decode_request, encode_acceptance
from dicom_listener.pdu import HEADER

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
USER_REJECTION = 1
"""PS3.8 Table 9-18."""
OURS = ("1.2.826.0.1.3680043.8.498.1", "COREWATCH_TEST")
CLASSES = [
    "1.2.840.10008.1.1",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.1.20.1",
    "1.3.12.2.1107.5.9.1",
]
SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.5"]

titles = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16)
syntaxes = st.lists(st.sampled_from(SYNTAXES), min_size=1, max_size=5, unique=True)
contexts = st.dictionaries(
    st.integers(0, 127).map(lambda n: 2 * n + 1), st.tuples(st.sampled_from(CLASSES), syntaxes), min_size=1, max_size=24
)
roles = st.dictionaries(
    st.sampled_from(CLASSES), st.sampled_from([(True, False), (False, True), (True, True)]), max_size=len(CLASSES)
)
offers = st.dictionaries(st.sampled_from(CLASSES), st.tuples(syntaxes, st.booleans()))
lengths = st.one_of(st.just(0), st.integers(1024, 2**32 - 1))


@st.composite
def requests(draw: st.DrawFn) -> A_ASSOCIATE:
    """What a peer may ask for, with user items that the listener knows and such that it passes over."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.called_ae_title, primitive.calling_ae_title = draw(titles), draw(titles)
    proposed = []
    for context_id, (sop_class, proposals) in draw(contexts).items():
        context = build_context(sop_class, proposals)
        context.context_id = context_id
        proposed.append(context)
    primitive.presentation_context_definition_list = proposed
    length = MaximumLengthNotification()
    length.maximum_length_received = draw(lengths)
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "1.2.3.4"
    items = [length, implementation]
    for sop_class, (scu, scp) in draw(roles).items():
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = sop_class, scu, scp
        items.append(role)
    items += draw(st.lists(st.sampled_from([_version(), _window(), _extended(), _identity()]), max_size=4, unique_by=type))
    primitive.user_information = items
    return primitive


def _version() -> ImplementationVersionNameNotification:
    item = ImplementationVersionNameNotification()
    item.implementation_version_name = "PEER_1"
    return item


def _window() -> AsynchronousOperationsWindowNegotiation:
    item = AsynchronousOperationsWindowNegotiation()
    item.maximum_number_operations_invoked, item.maximum_number_operations_performed = 3, 2
    return item


def _extended() -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = CLASSES[1], b"\x02\x00\x03\x00\x01\x00"
    return item


def _identity() -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type, item.positive_response_requested = 2, True
    item.primary_field, item.secondary_field = b"somebody", b"secret"
    return item


def encoded(primitive: A_ASSOCIATE) -> bytes:
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def asked_roles(primitive: A_ASSOCIATE) -> dict[str, tuple[bool, bool]]:
    wanted = [i for i in primitive.user_information if isinstance(i, SCP_SCU_RoleSelectionNegotiation)]
    return {str(i.sop_class_uid): (bool(i.scu_role), bool(i.scp_role)) for i in wanted}


def read(primitive: A_ASSOCIATE) -> AssociateRequest:
    return decode_request(memoryview(encoded(primitive))[HEADER.size :])


@given(requests())
def test_a_request_says_to_us_what_it_says_to_pynetdicom(primitive: A_ASSOCIATE) -> None:
    ours = read(primitive)
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(encoded(primitive))
    theirs = pdu.to_primitive()
    assert (ours.called_ae_title, ours.calling_ae_title) == (theirs.called_ae_title.strip(), theirs.calling_ae_title.strip())
    assert ours.application_context == theirs.application_context_name
    assert ours.max_pdu == theirs.maximum_length_received
    assert ours.roles == asked_roles(theirs) == asked_roles(primitive)
    assert [(p.context_id, p.abstract_syntax, list(p.transfer_syntaxes)) for p in ours.proposals] == [
        (c.context_id, c.abstract_syntax, c.transfer_syntax) for c in theirs.presentation_context_definition_list
    ]


@given(requests(), offers, lengths)
def test_our_answer_accepts_what_pynetdicom_would(
    primitive: A_ASSOCIATE, offered: dict[str, tuple[list[str], bool]], max_pdu: int
) -> None:
    known = {c: Offer(c, tuple(s), peer_may_be_scp=scp) for c, (s, scp) in offered.items()}
    request = read(primitive)
    answer, accepted = encode_acceptance(request, known, max_pdu=max_pdu, implementation=OURS)
    pdu = A_ASSOCIATE_AC()
    pdu.decode(answer)
    read_back = pdu.to_primitive()
    if len(accepted) == len(request.proposals):  # pynetdicom cannot write again a refused one, without its syntax
        assert pdu.encode() == answer, "every byte is as pynetdicom would write it"
    results = {c.context_id: c for c in read_back.presentation_context_definition_results_list}

    theirs, their_roles = negotiate_as_acceptor(
        primitive.presentation_context_definition_list,
        [_supported(offer) for offer in known.values()],
        asked_roles(primitive),
    )
    assert {i: c.result for i, c in results.items()} == {
        c.context_id: ACCEPTED if c.result == USER_REJECTION else c.result for c in theirs
    }
    for context in theirs:
        # a peer that wants to be the SCP alone, and may not: pynetdicom refuses the context, we refuse the role
        if context.result == USER_REJECTION:
            assert request.roles[str(context.abstract_syntax)] == (False, True)
            assert asked_roles(read_back)[str(context.abstract_syntax)] == (False, False)
    for context in theirs:
        if context.result != ACCEPTED:
            continue
        ours, offer = results[context.context_id], known[str(context.abstract_syntax)]
        proposed = next(p.transfer_syntaxes for p in request.proposals if p.context_id == context.context_id)
        common = [t for t in offer.transfer_syntaxes if t in proposed]
        assert ours.transfer_syntax == [common[0]], "our preference"
        if [t for t in proposed if t in common] == common:
            assert ours.transfer_syntax == context.transfer_syntax, "preferences agree"
    assert {(c.context_id, c.sop_class, c.transfer_syntax) for c in accepted} == {
        (i, next(p.abstract_syntax for p in request.proposals if p.context_id == i), c.transfer_syntax[0])
        for i, c in results.items()
        if c.result == ACCEPTED
    }
    granted = {str(r.sop_class_uid): (bool(r.scu_role), bool(r.scp_role)) for r in their_roles}
    ours_granted = asked_roles(read_back)
    assert ours_granted.keys() == {c for c in request.roles if c in {a.sop_class for a in accepted}}
    for sop_class, (_, scp) in ours_granted.items():
        assert not scp or known[sop_class].peer_may_be_scp
        if sop_class in granted:
            assert ours_granted[sop_class] == granted[sop_class]
    assert read_back.maximum_length_received == max_pdu
    assert read_back.implementation_class_uid == OURS[0]


def _supported(offer: Offer) -> PresentationContext:
    """The same offer in pynetdicom's words: the peer may always be the SCU, and the SCP where the offer says so."""
    context = build_context(offer.sop_class, list(offer.transfer_syntaxes))
    context.scu_role, context.scp_role = True, offer.peer_may_be_scp
    return context
