"""One association on one thread: the accepting side of the DICOM upper layer, run by its state table (PS3.8 9.2).

`state_machine` holds the table; `Association` finds out what happens next, looks up the action and performs it. Reads block on the
socket: nothing is polled, and a fragment goes from the socket's buffer straight to its service.
"""

from __future__ import annotations

import socket
import ssl
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from corewatch.arrival import ArrivalOutcome
from dicom_listener import pdu
from dicom_listener.connection import Connection, Pdu
from dicom_listener.dimse import LONGEST_COMMAND_SET, RESPONSE, Command, CommandField, Tag, Value, encode_response
from dicom_listener.negotiation import AssociateRequest, Context, Offer, decode_request, encode_acceptance
from dicom_listener.pdu import AbortReason, Fragment, MessageFault, PeerFault
from dicom_listener.policy import Rejection
from dicom_listener.services import (
    UNRECOGNISED,
    DimseRequest,
    Handler,
    ImmediateResponse,
    RequestSink,
    Response,
    Sender,
    Service,
)
from dicom_listener.state_machine import NEXT_STATES, PDU_EVENTS, TRANSITIONS, Action, Event, State, action_for

log = structlog.get_logger()

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
        """A peer broke the rules of TLS or of the upper layer."""


class Association:
    """Upper layer state machine and DIMSE dispatch of one connection. `run` is its thread's work; any thread may call `abort`."""

    def __init__(self, connection: Connection, host: str, profile: ListenerProfile, admission: AdmissionControl) -> None:
        self.host = host
        self._connection = connection
        self._profile = profile
        self._admission = admission
        self._state = State.IDLE
        self._decision: tuple[Event, Detail] | None = None
        self._contexts: dict[int, Context] = {}
        self._peer_max_pdu = 0
        self._handlers: dict[Service, Handler] = {}
        """Made with the first request for the service."""
        self._sender = Sender("", host)
        self._command = bytearray()
        self._command_context: Context | None = None
        """Of the command set that is being received."""
        self._request: DimseRequest | None = None
        self._sink: RequestSink | None = None
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
                self._take_data(received)
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
        self._contexts = {c.context_id: c for c in contexts}
        self._peer_max_pdu = request.max_pdu
        self._sender = Sender(request.calling_ae_title, self.host)
        self._connection.set_timeout(profile.idle_timeout_s)
        self._connection.send(answer)

    def _take_data(self, received: Pdu) -> None:
        for fragment in pdu.fragments(received.body):
            context = self._contexts.get(fragment.context_id)
            if context is None:
                raise PeerFault("a PDV names a presentation context that was not accepted")
            if fragment.command:
                self._take_command(fragment, context)
            elif self._request is None or self._sink is None or context is not self._request.context:
                raise MessageFault("a data set was sent without its command set")
            else:
                self._sink.write(fragment.data)
                if fragment.last:
                    self._respond(self._request, self._sink)

    def _take_command(self, fragment: Fragment, context: Context) -> None:
        if self._sink is not None:
            raise MessageFault("a command set was sent within a data set")
        if self._command_context not in (None, context):
            raise MessageFault("a command set was sent on two presentation contexts")
        self._command_context = context
        self._command += fragment.data
        if len(self._command) > LONGEST_COMMAND_SET:
            raise MessageFault("a command set is too long")
        if not fragment.last:
            return
        command = Command.decode(bytes(self._command))
        self._command.clear()
        self._command_context = None
        request = DimseRequest(command, context)
        sink = self._begin(request)
        self._request, self._sink = request, sink
        if not command.has_data_set:
            self._respond(request, sink)

    def _begin(self, request: DimseRequest) -> RequestSink:
        service = self._profile.services.get((request.context.sop_class, request.command.field))
        if service is None:
            return ImmediateResponse(UNRECOGNISED)
        try:
            handler = self._handlers.get(service)
            if handler is None:
                handler = self._handlers[service] = service.open(self._sender)
            return _Guarded(handler.begin(request), service.failure)
        except Exception as error:
            report(error, "service_failed")
            return ImmediateResponse(service.failure)

    def _respond(self, request: DimseRequest, sink: RequestSink) -> None:
        self._request = self._sink = None
        answer = sink.finish()
        command = request.command
        if command.field & RESPONSE or command.field == CommandField.C_CANCEL_RQ:
            return  # PS3.7 9.3.2.3: neither is answered, and we have no operation under way that it could belong to
        elements: dict[int, Value] = {Tag.STATUS: answer.status, **answer.elements}
        if answer.comment:
            elements[Tag.ERROR_COMMENT] = answer.comment
        context_id = request.context.context_id
        command_set = encode_response(command, elements, data_set=answer.data_set is not None)
        out = pdu.data(context_id, command_set, self._peer_max_pdu, command=True)
        if answer.data_set is not None:
            out += pdu.data(context_id, answer.data_set, self._peer_max_pdu, command=False)
        self._fire(Event.P_DATA_REQUEST, out)

    def _end_services(self, outcome: ArrivalOutcome) -> None:
        if self._sink is not None:
            self._sink.discard()
            self._sink = self._request = None
        handlers, self._handlers = self._handlers, {}
        for handler in handlers.values():
            try:
                handler.close(outcome)
            except Exception as error:
                report(error, "association_end_failed")

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


class _Guarded:
    """A sink whose exceptions become its service's failure response: a defect is no success, and does not end the association."""

    def __init__(self, sink: RequestSink, failure: Response) -> None:
        self._sink = sink
        self._failure = failure
        self._failed = False

    def write(self, fragment: memoryview) -> None:
        if self._failed:
            return
        try:
            self._sink.write(fragment)
        except Exception as error:
            self._give_up(error)

    def finish(self) -> Response:
        if not self._failed:
            try:
                return self._sink.finish()
            except Exception as error:
                self._give_up(error)
        return self._failure

    def discard(self) -> None:
        if not self._failed:
            try:
                self._sink.discard()
            except Exception as error:
                report(error, "service_failed")

    def _give_up(self, error: Exception) -> None:
        report(error, "service_failed")
        self.discard()
        self._failed = True


def report(error: Exception, event: str) -> None:
    """Log a defect with its type and place, but without its message, which may quote a data set."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    log.error(event, error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
