"""DICOM upper layer state machine, accepting side: the state transition table of PS3.8 9.2.3 (Table 9-10).

The standard's table, cut down to an entity that accepts associations and never asks for their release. The requestor's states
(Sta4, Sta5), the states after our own A-RELEASE request (Sta7, Sta9 to Sta12) and the events Evt1, Evt2 and Evt11 are left out.
A cell that the standard leaves empty is missing here too: such an event cannot happen in that state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from dicom_listener.pdu import PduType


class State(Enum):
    """States of PS3.8 Tables 9-1 to 9-5."""

    IDLE = "Sta1"
    AWAITING_REQUEST = "Sta2"
    """Transport connection open; ARTIM runs."""
    AWAITING_ANSWER = "Sta3"
    """An A-ASSOCIATE-RQ was received; our own decision is pending."""
    ESTABLISHED = "Sta6"
    AWAITING_RELEASE_RESPONSE = "Sta8"
    """An A-RELEASE-RQ was received; our own work for the association is being finished."""
    AWAITING_CLOSE = "Sta13"
    """Our last PDU is sent; the peer has to close the transport connection; ARTIM runs."""


class Event(Enum):
    """Events of PS3.8 Table 9-10."""

    ASSOCIATE_AC = "Evt3"
    ASSOCIATE_RJ = "Evt4"
    TRANSPORT_INDICATION = "Evt5"
    ASSOCIATE_RQ = "Evt6"
    ACCEPT = "Evt7"
    """A-ASSOCIATE response primitive (accept)."""
    REJECT = "Evt8"
    """A-ASSOCIATE response primitive (reject)."""
    P_DATA_REQUEST = "Evt9"
    """P-DATA request primitive: we send."""
    P_DATA = "Evt10"
    RELEASE_RQ = "Evt12"
    RELEASE_RP = "Evt13"
    RELEASE_RESPONSE = "Evt14"
    """A-RELEASE response primitive."""
    ABORT_REQUEST = "Evt15"
    """A-ABORT request primitive: we abort."""
    ABORT = "Evt16"
    TRANSPORT_CLOSED = "Evt17"
    ARTIM_EXPIRED = "Evt18"
    INVALID_PDU = "Evt19"
    """Unrecognized or invalid PDU received."""


class Action(Enum):
    """Actions of PS3.8 Tables 9-6 to 9-9."""

    AE_5 = "AE-5"
    """Start ARTIM."""
    AE_6 = "AE-6"
    """Stop ARTIM. Acceptable to the service provider: A-ASSOCIATE indication; if not: send A-ASSOCIATE-RJ, start ARTIM."""
    AE_7 = "AE-7"
    """Send A-ASSOCIATE-AC."""
    AE_8 = "AE-8"
    """Send A-ASSOCIATE-RJ, start ARTIM."""
    DT_1 = "DT-1"
    """Send P-DATA-TF."""
    DT_2 = "DT-2"
    """P-DATA indication."""
    AR_2 = "AR-2"
    """A-RELEASE indication."""
    AR_4 = "AR-4"
    """Send A-RELEASE-RP, start ARTIM."""
    AR_5 = "AR-5"
    """Stop ARTIM."""
    AR_7 = "AR-7"
    """Send P-DATA-TF."""
    AA_1 = "AA-1"
    """Send A-ABORT (source: service user), start ARTIM."""
    AA_2 = "AA-2"
    """Stop ARTIM, close the transport connection."""
    AA_3 = "AA-3"
    """A-ABORT or A-P-ABORT indication, close the transport connection."""
    AA_4 = "AA-4"
    """A-P-ABORT indication."""
    AA_5 = "AA-5"
    """Stop ARTIM."""
    AA_6 = "AA-6"
    """Ignore the PDU."""
    AA_7 = "AA-7"
    """Send A-ABORT."""
    AA_8 = "AA-8"
    """Send A-ABORT (source: service provider), A-P-ABORT indication, start ARTIM."""


class UndefinedTransition(Exception):
    """An event in a state for which PS3.8 Table 9-10 has no action: a defect in our code."""


AE_5, AE_6, AE_7, AE_8, DT_1, DT_2, AR_2, AR_4, AR_5, AR_7, AA_1, AA_2, AA_3, AA_4, AA_5, AA_6, AA_7, AA_8 = Action

_STATES = tuple(State)
# fmt: off
_TABLE: Mapping[Event, tuple[Action | None, ...]] = {
    #                            Sta1  Sta2  Sta3  Sta6  Sta8  Sta13
    Event.ASSOCIATE_AC:         (None, AA_1, AA_8, AA_8, AA_8, AA_6),
    Event.ASSOCIATE_RJ:         (None, AA_1, AA_8, AA_8, AA_8, AA_6),
    Event.TRANSPORT_INDICATION: (AE_5, None, None, None, None, None),
    Event.ASSOCIATE_RQ:         (None, AE_6, AA_8, AA_8, AA_8, AA_7),
    Event.ACCEPT:               (None, None, AE_7, None, None, None),
    Event.REJECT:               (None, None, AE_8, None, None, None),
    Event.P_DATA_REQUEST:       (None, None, None, DT_1, AR_7, None),
    Event.P_DATA:               (None, AA_1, AA_8, DT_2, AA_8, AA_6),
    Event.RELEASE_RQ:           (None, AA_1, AA_8, AR_2, AA_8, AA_6),
    Event.RELEASE_RP:           (None, AA_1, AA_8, AA_8, AA_8, AA_6),
    Event.RELEASE_RESPONSE:     (None, None, None, None, AR_4, None),
    Event.ABORT_REQUEST:        (None, None, AA_1, AA_1, AA_1, None),
    Event.ABORT:                (None, AA_2, AA_3, AA_3, AA_3, AA_2),
    Event.TRANSPORT_CLOSED:     (None, AA_5, AA_4, AA_4, AA_4, AR_5),
    Event.ARTIM_EXPIRED:        (None, AA_2, None, None, None, AA_2),
    Event.INVALID_PDU:          (None, AA_1, AA_8, AA_8, AA_8, AA_7),
}
# fmt: on
TRANSITIONS: Mapping[tuple[Event, State], Action] = {
    (event, state): action
    for event, row in _TABLE.items()
    for state, action in zip(_STATES, row, strict=True)
    if action is not None
}
"""(event, state) -> action."""

NEXT_STATES: Mapping[Action, tuple[State, ...]] = {
    AE_5: (State.AWAITING_REQUEST,),
    AE_6: (State.AWAITING_ANSWER, State.AWAITING_CLOSE),
    AE_7: (State.ESTABLISHED,),
    AE_8: (State.AWAITING_CLOSE,),
    DT_1: (State.ESTABLISHED,),
    DT_2: (State.ESTABLISHED,),
    AR_2: (State.AWAITING_RELEASE_RESPONSE,),
    AR_4: (State.AWAITING_CLOSE,),
    AR_5: (State.IDLE,),
    AR_7: (State.AWAITING_RELEASE_RESPONSE,),
    AA_1: (State.AWAITING_CLOSE,),
    AA_2: (State.IDLE,),
    AA_3: (State.IDLE,),
    AA_4: (State.IDLE,),
    AA_5: (State.IDLE,),
    AA_6: (State.AWAITING_CLOSE,),
    AA_7: (State.AWAITING_CLOSE,),
    AA_8: (State.AWAITING_CLOSE,),
}
"""Action -> next state; for AE-6 first the one for a request that is acceptable to the service provider."""

PDU_EVENTS: Mapping[PduType, Event] = {
    PduType.ASSOCIATE_RQ: Event.ASSOCIATE_RQ,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ,
    PduType.DATA: Event.P_DATA,
    PduType.RELEASE_RQ: Event.RELEASE_RQ,
    PduType.RELEASE_RP: Event.RELEASE_RP,
    PduType.ABORT: Event.ABORT,
}
"""What it is to receive a valid PDU of this type."""


def action_for(event: Event, state: State) -> Action:
    """The action that the table prescribes.

    Raises
    ------
    UndefinedTransition
        The table has none.
    """
    try:
        return TRANSITIONS[event, state]
    except KeyError:
        raise UndefinedTransition(f"{event.name} ({event.value}) in state {state.name} ({state.value})") from None
