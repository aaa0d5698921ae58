"""The listener's state table beside the standard's, and an association that runs by it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import fsm

import dicom_listener.association
from corewatch.arrival import ArrivalOutcome
from dicom_listener.association import Association, Detail, ListenerProfile
from dicom_listener.connection import Connection
from dicom_listener.dimse import CommandField
from dicom_listener.negotiation import AssociateRequest, Offer
from dicom_listener.pdu import PduType
from dicom_listener.policy import Rejection
from dicom_listener.services import VERIFICATION, DimseRequest, ImmediateResponse, RequestSink, Response, Sender
from dicom_listener.state_machine import NEXT_STATES, PDU_EVENTS, TRANSITIONS, Action, Event, State, UndefinedTransition, action_for
from tests.support import wire

STANDARD = """
       Sta1  Sta2  Sta3  Sta6  Sta8  Sta13
Evt3   -     AA-1  AA-8  AA-8  AA-8  AA-6
Evt4   -     AA-1  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  -     -     -     -     -
Evt6   -     AE-6  AA-8  AA-8  AA-8  AA-7
Evt7   -     -     AE-7  -     -     -
Evt8   -     -     AE-8  -     -     -
Evt9   -     -     -     DT-1  AR-7  -
Evt10  -     AA-1  AA-8  DT-2  AA-8  AA-6
Evt12  -     AA-1  AA-8  AR-2  AA-8  AA-6
Evt13  -     AA-1  AA-8  AA-8  AA-8  AA-6
Evt14  -     -     -     -     AR-4  -
Evt15  -     -     AA-1  AA-1  AA-1  -
Evt16  -     AA-2  AA-3  AA-3  AA-3  AA-2
Evt17  -     AA-5  AA-4  AA-4  AA-4  AR-5
Evt18  -     AA-2  -     -     -     AA-2
Evt19  -     AA-1  AA-8  AA-8  AA-8  AA-7
"""
"""PS3.8 Table 9-10, its rows and columns that an acceptor which never asks for a release can meet."""

NEXT = {
    "AE-5": "Sta2",
    "AE-6": "Sta3 Sta13",
    "AE-7": "Sta6",
    "AE-8": "Sta13",
    "DT-1": "Sta6",
    "DT-2": "Sta6",
    "AR-2": "Sta8",
    "AR-4": "Sta13",
    "AR-5": "Sta1",
    "AR-7": "Sta8",
    "AA-1": "Sta13",
    "AA-2": "Sta1",
    "AA-3": "Sta1",
    "AA-4": "Sta1",
    "AA-5": "Sta1",
    "AA-6": "Sta13",
    "AA-7": "Sta13",
    "AA-8": "Sta13",
}
"""Next states of PS3.8 Tables 9-6 to 9-9."""


def standard() -> dict[tuple[str, str], str]:
    states, *rows = [line.split() for line in STANDARD.strip().splitlines()]
    return {(row[0], state): cell for row in rows for state, cell in zip(states, row[1:], strict=True) if cell != "-"}


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_cell_is_that_of_the_standard(event: Event, state: State) -> None:
    expected = standard().get((event.value, state.value))
    if expected is None:
        with pytest.raises(UndefinedTransition):
            action_for(event, state)
    else:
        assert action_for(event, state).value == expected


def test_the_next_states_are_those_of_the_standard() -> None:
    assert {a.value: " ".join(s.value for s in states) for a, states in NEXT_STATES.items()} == NEXT


def test_pynetdicom_has_the_same_cells_and_besides_only_those_of_a_requestor() -> None:
    ours = {(event.value, state.value): action.value for (event, state), action in TRANSITIONS.items()}
    states = {state.value for state in State}
    theirs = {cell: action for cell, action in fsm.TRANSITION_TABLE.items() if cell[1] in states}
    assert ours == standard()
    assert {cell: action for cell, action in theirs.items() if cell not in ours} == {
        ("Evt1", "Sta1"): "AE-1",
        ("Evt11", "Sta6"): "AR-1",
    }
    assert {cell: theirs[cell] for cell in ours} == ours


def test_every_type_of_pdu_is_an_event_and_every_action_is_used() -> None:
    assert set(PDU_EVENTS) == set(PduType)
    assert set(TRANSITIONS.values()) == set(Action) == set(NEXT_STATES)


class Echo:
    """C-ECHO, which remembers how its associations ended."""

    commands = frozenset({int(CommandField.C_ECHO_RQ)})
    failure = Response(0x0110)

    def __init__(self) -> None:
        self.ends: list[ArrivalOutcome] = []

    def offers(self) -> tuple[Offer, ...]:
        return (Offer(VERIFICATION, (ImplicitVRLittleEndian,)),)

    def open(self, _sender: Sender) -> Echo:
        return self

    def begin(self, _request: DimseRequest) -> RequestSink:
        return ImmediateResponse(Response(0))

    def close(self, outcome: ArrivalOutcome) -> None:
        self.ends.append(outcome)


class Observed(Association):
    """Records each cell of the table that it uses. It is its own admission control, which answers with `rejection`."""

    def __init__(self, sock: socket.socket, rejection: Rejection | None, idle_timeout_s: float) -> None:
        self.service = Echo()
        self.cells: list[tuple[str, str, str]] = []
        self.faults: list[str] = []
        self.rejection = rejection
        profile = ListenerProfile.of([self.service], 16384, idle_timeout_s, ("1.2.3", "TEST"))
        super().__init__(Connection(sock, 16384, 20), "127.0.0.1", profile, self)

    def _fire(self, event: Event, detail: Detail = None) -> None:
        self.cells.append((event.value, self._state.value, action_for(event, self._state).value))
        super()._fire(event, detail)

    def admit(self, association: Association, request: AssociateRequest) -> Rejection | None:
        return self.rejection

    def leave(self, association: Association) -> None:
        pass

    def idle(self, host: str, seconds: float) -> None:
        self.faults.append(f"idle {seconds:g} s")

    def fault(self, host: str, reason: str) -> None:
        self.faults.append(reason)


@contextmanager
def running(rejection: Rejection | None = None, idle_timeout_s: float = 20) -> Iterator[tuple[Observed, wire.RawPeer]]:
    """An association on its thread, and its peer; at the end the peer has closed and the association has ended."""
    with socket.create_server(("127.0.0.1", 0)) as server, wire.raw_peer(server.getsockname()[1]) as peer:
        association = Observed(server.accept()[0], rejection, idle_timeout_s)
        thread = threading.Thread(target=association.run)
        thread.start()
        try:
            yield association, peer
        finally:
            peer.finish()
            thread.join(20)
        assert not thread.is_alive()


REQUEST = wire.associate_rq(wire.context(1, VERIFICATION, [ImplicitVRLittleEndian]))
ECHO = wire.command({0x0002: VERIFICATION.encode(), 0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\1\1"})
RELEASE = wire.pdu(wire.RELEASE_RQ, bytes(4))
CLOSE = b""
PEER_EVENTS = {
    Event.ASSOCIATE_AC: wire.pdu(wire.ASSOCIATE_AC, bytes(68)),
    Event.ASSOCIATE_RJ: wire.pdu(wire.ASSOCIATE_RJ, bytes(4)),
    Event.ASSOCIATE_RQ: REQUEST,
    Event.P_DATA: wire.pdu(wire.DATA, wire.pdv(ECHO, 3)),
    Event.RELEASE_RQ: RELEASE,
    Event.RELEASE_RP: wire.pdu(wire.RELEASE_RP, bytes(4)),
    Event.ABORT: wire.pdu(wire.ABORT, bytes(4)),
    Event.INVALID_PDU: wire.pdu(0x42, bytes(4)),
    Event.TRANSPORT_CLOSED: CLOSE,
}
WAYS = {
    State.AWAITING_REQUEST: (),
    State.ESTABLISHED: (REQUEST,),
    State.AWAITING_CLOSE: (REQUEST, RELEASE),
}
"""What brings an association into each state in which it waits for its peer; each is answered with one PDU."""
ANSWERS: dict[str, tuple[int, ...]] = {
    "AE-6": (wire.ASSOCIATE_AC,),
    "DT-2": (wire.DATA,),
    "AR-2": (wire.RELEASE_RP,),
    "AA-1": (wire.ABORT,),
    "AA-7": (wire.ABORT,),
    "AA-8": (wire.ABORT,),
}
"""Types of the PDUs that follow from an action; all others send nothing."""


@pytest.mark.parametrize("event", PEER_EVENTS)
@pytest.mark.parametrize("state", WAYS)
def test_an_association_does_what_the_cell_says(event: Event, state: State) -> None:
    expected = standard()[event.value, state.value]
    with running() as (association, peer):
        for step in WAYS[state]:
            peer.send(step)
            peer.read()
        peer.send(PEER_EVENTS[event])
        answers = tuple(peer.finish())
    assert (event.value, state.value, expected) in association.cells
    assert answers == ANSWERS.get(expected, ())
    assert association._state is State.IDLE


@pytest.mark.parametrize("state", [State.AWAITING_REQUEST, State.AWAITING_CLOSE])
def test_the_artim_timer_closes_the_connection(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEGOTIATION_TIMEOUT_S", "CLOSE_TIMEOUT_S"):
        monkeypatch.setattr(dicom_listener.association, name, 0.1)
    with running() as (association, peer):
        for step in WAYS[state]:
            peer.send(step)
            peer.read()
        assert peer.read() == wire.CLOSED
    assert association.cells[-1] == ("Evt18", state.value, "AA-2")


def test_the_artim_timer_counts_all_bytes_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_listener.association, "NEGOTIATION_TIMEOUT_S", 0.2)
    with running() as (association, peer):
        peer.send(REQUEST[:-1])
        assert peer.read() == wire.CLOSED
    assert association.cells[-1] == ("Evt18", "Sta2", "AA-2")


def test_an_idle_association_is_aborted() -> None:
    with running(idle_timeout_s=0.1) as (association, peer):
        peer.send(REQUEST)
        assert [peer.read()[0], peer.read()] == [wire.ASSOCIATE_AC, (wire.ABORT, bytes(4))]
    assert ("Evt15", "Sta6", "AA-1") in association.cells


def test_another_thread_aborts_an_association() -> None:
    with running() as (association, peer):
        peer.send(REQUEST)
        peer.read()
        association.abort()
        assert peer.read() == (wire.ABORT, bytes(4))
    assert ("Evt15", "Sta6", "AA-1") in association.cells


@pytest.mark.parametrize("rejection", Rejection)
def test_the_provider_rejects_before_its_user_is_asked(rejection: Rejection) -> None:
    with running(rejection) as (association, peer):
        peer.send(REQUEST)
        assert peer.read() == (wire.ASSOCIATE_RJ, bytes((0, *rejection.codes)))
    used = [action for _, _, action in association.cells]
    assert used == (["AE-5", "AE-6", "AR-5"] if rejection.codes[1] > 1 else ["AE-5", "AE-6", "AE-8", "AR-5"])


@pytest.mark.parametrize(
    ("bad", "abort"),
    [
        (REQUEST, (2, 2)),
        (wire.pdu(0x42, b""), (2, 1)),
        (wire.pdu(wire.DATA, b"\0"), (2, 6)),
        (wire.pdu(wire.DATA, b"", length=16385), (2, 6)),
    ],
)
def test_an_abort_says_what_was_wrong(bad: bytes, abort: tuple[int, int]) -> None:
    with running() as (association, peer):
        peer.send(REQUEST)
        peer.read()
        peer.send(bad)
        assert peer.read() == (wire.ABORT, bytes((0, 0, *abort)))
    assert len(association.faults) == 1


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (RELEASE, ArrivalOutcome.RELEASED),
        (PEER_EVENTS[Event.ABORT], ArrivalOutcome.ABORTED),
        (PEER_EVENTS[Event.RELEASE_RP], ArrivalOutcome.ABORTED),
        (CLOSE, ArrivalOutcome.ABORTED),
    ],
)
def test_services_learn_once_how_an_association_ended(last: bytes, outcome: ArrivalOutcome) -> None:
    with running() as (association, peer):
        peer.send(REQUEST)
        peer.read()
        peer.send(PEER_EVENTS[Event.P_DATA])
        assert peer.status() == 0
        peer.send(last)
        if last == RELEASE:
            assert peer.read()[0] == wire.RELEASE_RP
            assert association.service.ends == [outcome], "recorded before the peer knows"
    assert association.service.ends == [outcome]


def test_after_a_pdu_without_a_believable_length_everything_is_discarded() -> None:
    with running() as (association, peer):
        peer.send(REQUEST)
        peer.read()
        peer.send(wire.pdu(0x42, b"", length=0xFFFFFFFF), PEER_EVENTS[Event.ABORT], REQUEST)
        assert peer.finish() == [wire.ABORT]
    assert [action for _, _, action in association.cells[-2:]] == ["AA-8", "AR-5"]
