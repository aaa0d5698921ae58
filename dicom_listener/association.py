"""One association on one thread: the accepting side of the DICOM upper layer, run by its state table (PS3.8 9.2).

`state_machine` holds the table; `Association` finds out what happens next, looks up the action and performs it. Messages are for
`dispatch`. Reads block on the socket: nothing is polled, and a fragment goes from the socket's buffer straight to its service.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from corewatch.arrival import ArrivalOutcome
from dicom_listener import pdu
from dicom_listener.connection import Connection, Pdu
from dicom_listener.dispatch import MessageDispatcher, report
from dicom_listener.negotiation import AssociateRequest, Offer, decode_request, encode_acceptance
from dicom_listener.pdu import AbortReason, MessageFault, PeerFault
from dicom_listener.policy import Rejection
from dicom_listener.services import Sender, Service
from dicom_listener.state_machine import NEXT_STATES, PDU_EVENTS, TRANSITIONS, Action, Event, State, action_for

NEGOTIATION_TIMEOUT_S = 15.0
"""ARTIM timer before the A-ASSOCIATE-RQ: a connection that has not asked for an association by then is closed."""
CLOSE_TIMEOUT_S = 3.0
"""ARTIM timer after our last PDU: how long the peer may take to close the connection."""

Detail = Pdu | PeerFault | AssociateRequest | Rejection | bytes | None
"""What belongs to an event: the PDU received, what is wrong with it, our decision on a request, or the bytes to send."""


@dataclass(frozen=True, slots=True)
class ListenerProfile:
    """What all associations of a listener have in common.

    Attributes
    ----------
    services
        By SOP class and command field.
    offers
        By SOP class.
    max_pdu
        Bytes of the longest P-DATA-TF that we take.
    implementation
        Our Implementation Class UID and Version Name.
    """

    services: Mapping[tuple[str, int], Service]
    offers: Mapping[str, Offer]
    max_pdu: int
    idle_timeout_s: float
    implementation: tuple[str, str]

    @classmethod
    def of(
        cls, services: Sequence[Service], max_pdu: int, idle_timeout_s: float, implementation: tuple[str, str]
    ) -> ListenerProfile:
        """The profile under which these services are offered."""
        offered = [(offer, service) for service in services for offer in service.offers()]
        table = {(offer.sop_class, field): service for offer, service in offered for field in service.commands}
        return cls(table, {offer.sop_class: offer for offer, _ in offered}, max_pdu, idle_timeout_s, implementation)


class AdmissionControl(Protocol):
    """Decides who may open an association, and counts those that are open; the listener."""

    def admit(self, association: Association, request: AssociateRequest) -> Rejection | None:
        """Count the association as open, or return why it is rejected."""

    def leave(self, association: Association) -> None:
        """The association has ended; it may never have been admitted."""

    def fault(self, host: str, reason: str) -> None:
        """A peer violated TLS or the upper layer protocol."""

    def idle(self, host: str, seconds: float) -> None:
        """We end an association, because its peer has sent nothing for this long."""


class Association:
    """Upper layer state machine of one connection. `run` is its thread's work; any thread may call `abort`."""

    def __init__(self, connection: Connection, host: str, profile: ListenerProfile, admission: AdmissionControl) -> None:
        self.host = host
        self._connection = connection
        self._profile = profile
        self._admission = admission
        self._state = State.IDLE
        self._decision: tuple[Event, Detail] | None = None
        self._dispatcher: MessageDispatcher | None = None
        """From the acceptance on."""
        self._aborting = False

    def run(self) -> None:
        """Serve the peer until the connection ends. Never raises."""
        try:
            self._connection.handshake()
            self._fire(Event.TRANSPORT_INDICATION)
            while self._state is not State.IDLE:
                self._step()
        except ssl.SSLError as error:
            self._tls_failed(error)
        except OSError:
            pass  # there was no TLS handshake: nothing can be sent
        except Exception as error:
            report(error, "association_failed")
        finally:
            self._end_services(ArrivalOutcome.ABORTED)
            self._connection.close()
            self._admission.leave(self)

    def abort(self) -> None:
        """End the association from another thread, with an A-ABORT to the peer."""
        self._aborting = True
        self._connection.interrupt()

    def cut(self) -> None:
        """End it although the peer no longer reads, not even an A-ABORT."""
        self._connection.interrupt(socket.SHUT_RDWR)

    def _step(self) -> None:
        try:
            self._fire(*self._next_event())
        except PeerFault as fault:
            self._admission.fault(self.host, str(fault))
            self._fire(Event.ABORT_REQUEST if isinstance(fault, MessageFault) else Event.INVALID_PDU, fault)
        except TimeoutError:
            timed = self._state in (State.AWAITING_REQUEST, State.AWAITING_CLOSE)
            if self._state is State.ESTABLISHED:
                self._admission.idle(self.host, self._profile.idle_timeout_s)
            self._fire(Event.ARTIM_EXPIRED if timed else Event.ABORT_REQUEST)
        except OSError as error:
            if isinstance(error, ssl.SSLError):
                self._tls_failed(error)
            self._fire(Event.TRANSPORT_CLOSED)
        except Exception as error:
            report(error, "association_failed")
            can_abort = (Event.ABORT_REQUEST, self._state) in TRANSITIONS
            self._fire(Event.ABORT_REQUEST if can_abort else Event.TRANSPORT_CLOSED)

    def _next_event(self) -> tuple[Event, Detail]:
        """What happens next: our own decision where one is due, else what the peer sends.

        Raises
        ------
        PeerFault
            The PDU is invalid.
        TimeoutError
            The ARTIM timer expired, or an established association is idle for too long.
        OSError
            The connection broke.
        """
        if self._decision is not None:
            decision, self._decision = self._decision, None
            return decision
        if self._state is State.AWAITING_RELEASE_RESPONSE:
            return Event.RELEASE_RESPONSE, None
        received = self._connection.read()
        if received is not None:
            return PDU_EVENTS[received.kind], received
        return (Event.ABORT_REQUEST if self._aborting and self._state is State.ESTABLISHED else Event.TRANSPORT_CLOSED), None

    def _fire(self, event: Event, detail: Detail = None) -> None:
        action = action_for(event, self._state)
        self._state = self._perform(action, detail)

    def _perform(self, action: Action, detail: Detail) -> State:
        """Do what Tables 9-6 to 9-9 of PS3.8 say; returns the next state."""
        match action, detail:
            case Action.DT_2, Pdu() as received:
                self._receive(received)
            case ((Action.DT_1 | Action.AR_7), bytes() as data):
                self._connection.send(data)
            case Action.AE_5, _:
                self._connection.start_artim(NEGOTIATION_TIMEOUT_S)
            case Action.AE_6, Pdu() as received:
                return self._consider(received)
            case Action.AE_7, AssociateRequest() as request:
                self._accept(request)
            case Action.AE_8, Rejection() as rejection:
                self._send_last(pdu.reject(*rejection.codes))
            case Action.AR_2, _:
                # the arrival is recorded as complete before the sender learns that it is
                self._end_services(ArrivalOutcome.RELEASED)
            case Action.AR_4, _:
                self._send_last(pdu.release_response())
            case Action.AA_1, _:
                self._note_unexpected(detail)
                self._send_last(pdu.abort())
                self._end_services(ArrivalOutcome.ABORTED)
            case Action.AA_8, _:
                self._note_unexpected(detail)
                self._send_last(pdu.abort(detail.reason if isinstance(detail, PeerFault) else AbortReason.UNEXPECTED_PDU))
                self._end_services(ArrivalOutcome.ABORTED)
            case Action.AA_7, _:
                self._send_quietly(pdu.abort(detail.reason if isinstance(detail, PeerFault) else AbortReason.UNEXPECTED_PDU))
            case ((Action.AA_3 | Action.AA_4), _):
                self._end_services(ArrivalOutcome.ABORTED)
            case ((Action.AR_5 | Action.AA_2 | Action.AA_5), _):
                self._connection.stop_artim()
            case Action.AA_6, _:
                pass
            case _:
                raise TypeError(f"{action.value} does not take {type(detail).__name__}")
        return NEXT_STATES[action][0]

    def _consider(self, received: Pdu) -> State:
        """AE-6. What the service provider itself rejects is never indicated to us as its user."""
        request = decode_request(received.body)
        self._connection.stop_artim()
        rejection = self._admission.admit(self, request)
        acceptable, refused = NEXT_STATES[Action.AE_6]
        if rejection is not None and rejection.by_provider:
            self._send_last(pdu.reject(*rejection.codes))
            return refused
        self._decision = (Event.ACCEPT, request) if rejection is None else (Event.REJECT, rejection)
        return acceptable

    def _accept(self, request: AssociateRequest) -> None:
        profile = self._profile
        answer, contexts = encode_acceptance(
            request, profile.offers, max_pdu=profile.max_pdu, implementation=profile.implementation
        )
        sender = Sender(request.calling_ae_title, self.host)
        self._dispatcher = MessageDispatcher(profile.services, contexts, sender, request.max_pdu, self._send_data)
        self._connection.set_timeout(profile.idle_timeout_s)
        self._connection.send(answer)

    def _receive(self, received: Pdu) -> None:
        if self._dispatcher is not None:
            self._dispatcher.receive(received.body)

    def _send_data(self, data: bytes) -> None:
        self._fire(Event.P_DATA_REQUEST, data)

    def _end_services(self, outcome: ArrivalOutcome) -> None:
        if self._aborting and outcome is ArrivalOutcome.ABORTED:
            outcome = ArrivalOutcome.INTERRUPTED  # we stop: the sender had not finished
        # the dispatcher sends through us: without the reference cycle the connection's buffer is freed at once
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is not None:
            dispatcher.end(outcome)

    def _send_last(self, data: bytes) -> None:
        self._connection.start_artim(CLOSE_TIMEOUT_S)
        self._send_quietly(data)

    def _send_quietly(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except OSError:
            return  # the next read finds the connection closed, or the timer expired

    def _note_unexpected(self, detail: Detail) -> None:
        if isinstance(detail, Pdu):
            self._admission.fault(self.host, f"unexpected {detail.kind.label} in state {self._state.value}")

    def _tls_failed(self, error: ssl.SSLError) -> None:
        self._admission.fault(self.host, f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}")
