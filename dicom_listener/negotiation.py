"""Association negotiation: decodes an A-ASSOCIATE-RQ, encodes the A-ASSOCIATE-AC (PS3.8 9.3.2, 9.3.3; PS3.7 Annex D).

Decoded by hand and in one pass: anyone who reaches the port can send these bytes, before any rule of `policy` applies. Unknown
items and user information sub-items are ignored (PS3.8 9.3.1, D.2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dicom_listener.pdu import HEADER, PduType, PeerFault

_ITEM = struct.Struct(">BxH")
_FIXED = struct.Struct(">HH16s16s32s")
"""Protocol version, reserved, called and calling AE title, reserved."""
_MAX_LENGTH = struct.Struct(">L")

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
"""The DICOM application context name (PS3.7 A.2.1); there is no other."""
_PROTOCOL_VERSION = 1
"""Bit 0: version 1, the only one (PS3.8 Table 9-11)."""

APPLICATION_CONTEXT_ITEM = 0x10
CONTEXT_RQ_ITEM = 0x20
CONTEXT_AC_ITEM = 0x21
ABSTRACT_SYNTAX_ITEM = 0x30
TRANSFER_SYNTAX_ITEM = 0x40
USER_INFORMATION_ITEM = 0x50
MAX_LENGTH_ITEM = 0x51
IMPLEMENTATION_CLASS_ITEM = 0x52
ROLE_ITEM = 0x54
IMPLEMENTATION_VERSION_ITEM = 0x55

ACCEPTED, NO_SUCH_ABSTRACT_SYNTAX, NO_SUCH_TRANSFER_SYNTAX = 0, 3, 4
"""Results of a presentation context (PS3.8 Table 9-18)."""
_LEAST_PDU = 8
"""One PDV of two bytes; a peer that accepts less at a time cannot be answered."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A SOP class that the listener accepts.

    Attributes
    ----------
    transfer_syntaxes
        In order of preference: the first one that the peer proposes in a context is accepted.
    peer_may_be_scp
        Whether the peer may become the SCP by role selection (PS3.7 D.3.3.4).
    """

    sop_class: str
    transfer_syntaxes: tuple[str, ...]
    peer_may_be_scp: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """A presentation context that the peer proposes."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A decoded A-ASSOCIATE-RQ.

    Attributes
    ----------
    titles
        Bytes 11-74 of the PDU, which the A-ASSOCIATE-AC repeats as received: both AE titles and a reserved field.
    max_pdu
        Bytes of the longest P-DATA-TF that the peer accepts; 0: no limit.
    roles
        SOP class -> whether the peer proposes to be its SCU, its SCP.
    version_supported
        Whether the peer supports version 1 of the protocol; if not, only the AE titles were decoded.
    """

    called_ae_title: str
    calling_ae_title: str
    application_context: str
    proposals: tuple[Proposal, ...]
    max_pdu: int
    roles: Mapping[str, tuple[bool, bool]]
    titles: bytes
    version_supported: bool = True


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    context_id: int
    sop_class: str
    transfer_syntax: str


def decode_request(body: memoryview) -> AssociateRequest:
    """Decode the body of an A-ASSOCIATE-RQ.

    Raises
    ------
    PeerFault
        It is invalid.
    """
    if len(body) < _FIXED.size:
        raise PeerFault("an A-ASSOCIATE-RQ is too short")
    version, _, called, calling, _ = _FIXED.unpack_from(body)
    called_ae_title, calling_ae_title, titles = _title(called), _title(calling), bytes(body[4:68])
    if not version & _PROTOCOL_VERSION:
        return AssociateRequest(called_ae_title, calling_ae_title, "", (), 0, {}, titles, version_supported=False)
    application_context, max_pdu = "", 0
    proposals: dict[int, Proposal] = {}
    roles: dict[str, tuple[bool, bool]] = {}
    for kind, value in _items(body[_FIXED.size :]):
        if kind == APPLICATION_CONTEXT_ITEM:
            application_context = _uid(value)
        elif kind == CONTEXT_RQ_ITEM:
            proposal = _proposal(value)
            if proposal.context_id in proposals:
                raise PeerFault("a presentation context ID is used twice")
            proposals[proposal.context_id] = proposal
        elif kind == USER_INFORMATION_ITEM:
            for sub_kind, sub_value in _items(value):
                if sub_kind == MAX_LENGTH_ITEM and len(sub_value) == _MAX_LENGTH.size:
                    (max_pdu,) = _MAX_LENGTH.unpack(sub_value)
                elif sub_kind == ROLE_ITEM:
                    sop_class, wanted = _role(sub_value)
                    roles[sop_class] = wanted
    if not proposals:
        raise PeerFault("an A-ASSOCIATE-RQ proposes no presentation context")
    if 0 < max_pdu < _LEAST_PDU:
        raise PeerFault("the peer's longest PDU is too short to answer")
    contexts = tuple(proposals.values())
    return AssociateRequest(called_ae_title, calling_ae_title, application_context, contexts, max_pdu, roles, titles)


def negotiate(request: AssociateRequest, offers: Mapping[str, Offer]) -> tuple[tuple[Context, ...], dict[int, int]]:
    """The accepted contexts, and the result for each of the others (context ID -> result of PS3.8 Table 9-18)."""
    accepted: list[Context] = []
    refused: dict[int, int] = {}
    for proposal in request.proposals:
        offer = offers.get(proposal.abstract_syntax)
        if offer is None:
            refused[proposal.context_id] = NO_SUCH_ABSTRACT_SYNTAX
            continue
        chosen = next((t for t in offer.transfer_syntaxes if t in proposal.transfer_syntaxes), None)
        if chosen is None:
            refused[proposal.context_id] = NO_SUCH_TRANSFER_SYNTAX
        else:
            accepted.append(Context(proposal.context_id, proposal.abstract_syntax, chosen))
    return tuple(accepted), refused


def encode_acceptance(
    request: AssociateRequest,
    offers: Mapping[str, Offer],
    *,
    max_pdu: int,
    implementation: tuple[str, str],
) -> tuple[bytes, tuple[Context, ...]]:
    """Encode the A-ASSOCIATE-AC for a request; returns it and the contexts that it accepts.

    `implementation` is our Implementation Class UID and Version Name.
    """
    accepted, refused = negotiate(request, offers)
    results = {c.context_id: (ACCEPTED, c.transfer_syntax) for c in accepted}
    results |= {context_id: (result, "") for context_id, result in refused.items()}
    contexts = b"".join(_result_item(p.context_id, *results[p.context_id]) for p in request.proposals)
    sop_classes = {c.sop_class for c in accepted}
    user = (
        _item(MAX_LENGTH_ITEM, _MAX_LENGTH.pack(max_pdu))
        + _text_item(IMPLEMENTATION_CLASS_ITEM, implementation[0])
        + b"".join(
            _role_item(sop_class, scu=scu, scp=scp and offers[sop_class].peer_may_be_scp)
            for sop_class, (scu, scp) in request.roles.items()
            if sop_class in sop_classes
        )
        + _text_item(IMPLEMENTATION_VERSION_ITEM, implementation[1])
    )
    body = (
        struct.pack(">HH", 1, 0)
        + request.titles
        + _text_item(APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT)
        + contexts
        + _item(USER_INFORMATION_ITEM, user)
    )
    return HEADER.pack(PduType.ASSOCIATE_AC, len(body)) + body, accepted


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    position, end = 0, len(data)
    while position < end:
        if end - position < _ITEM.size:
            raise PeerFault("an item of an A-ASSOCIATE-RQ ends within its header")
        kind, length = _ITEM.unpack_from(data, position)
        start = position + _ITEM.size
        position = start + length
        if position > end:
            raise PeerFault("an item of an A-ASSOCIATE-RQ is longer than its container")
        yield kind, data[start:position]


def _proposal(value: memoryview) -> Proposal:
    if len(value) < 4 or not value[0] % 2:
        raise PeerFault("a presentation context has no valid ID")
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for kind, text in _items(value[4:]):
        if kind == ABSTRACT_SYNTAX_ITEM:
            abstract_syntax = _uid(text)
        elif kind == TRANSFER_SYNTAX_ITEM:
            transfer_syntaxes.append(_uid(text))
    return Proposal(value[0], abstract_syntax, tuple(transfer_syntaxes))


def _role(value: memoryview) -> tuple[str, tuple[bool, bool]]:
    length = int.from_bytes(value[:2], "big")
    if len(value) != length + 4:
        raise PeerFault("a role selection item has a wrong length")
    return _uid(value[2:-2]), (bool(value[-2]), bool(value[-1]))


def _uid(value: memoryview) -> str:
    """As text, not validated: an invalid UID matches no offer. Some senders pad with a zero byte, as in a data set."""
    return bytes(value).rstrip(b"\0 ").decode("ascii", "replace")


def _title(value: bytes) -> str:
    """Without padding: spaces (PS3.8 9.3.2), or a zero byte and everything after it, as some senders in C write it."""
    title = value.partition(b"\0")[0].decode("ascii", "replace").strip(" ")
    if not title.isprintable():
        raise PeerFault("an AE title holds control characters")  # PS3.5 6.2; they would go into log and ledger
    return title


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _text_item(kind: int, text: str) -> bytes:
    return _item(kind, text.encode("ascii"))


def _result_item(context_id: int, result: int, transfer_syntax: str) -> bytes:
    # a refused context must have a transfer syntax item too; its value is not significant (PS3.8 9.3.3.2)
    return _item(CONTEXT_AC_ITEM, bytes((context_id, 0, result, 0)) + _text_item(TRANSFER_SYNTAX_ITEM, transfer_syntax))


def _role_item(sop_class: str, *, scu: bool, scp: bool) -> bytes:
    uid = sop_class.encode("ascii")
    return _item(ROLE_ITEM, len(uid).to_bytes(2, "big") + uid + bytes((scu, scp)))
