"""One association from its first byte to its end: the accepting half of the upper layer's state machine (PS3.8 9.2).

One thread an association, blocking on its socket: nothing is polled, and a fragment goes from the socket's buffer to who wants it.
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
from dicom_listener.dimse import LONGEST_COMMAND_SET, RESPONSE, Command, CommandField, Tag, Value, response
from dicom_listener.negotiation import AssociateRequest, Context, Offer, decode_request, encode_acceptance
from dicom_listener.pdu import AbortReason, Fragment, PduType, PeerFault
from dicom_listener.policy import Rejection
from dicom_listener.services import UNRECOGNISED, Handler, Incoming, Reply, Request, Sender, Service, Settled

log = structlog.get_logger()

NEGOTIATION_TIMEOUT_S = 15.0
"""A connection that has not asked for an association by then is closed."""
CLOSE_TIMEOUT_S = 3.0
"""How long the peer may take to close the connection after its release or rejection (ARTIM timer)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all associations of a listener have in common.

    Attributes
    ----------
    services
        By SOP class and command field.
    implementation
        Our Implementation Class UID and Version Name.
    """

    services: Mapping[tuple[str, int], Service]
    offers: Mapping[str, Offer]
    max_pdu: int
    idle_timeout_s: float
    implementation: tuple[str, str]

    @classmethod
    def of(cls, services: Sequence[Service], max_pdu: int, idle_timeout_s: float, implementation: tuple[str, str]) -> Terms:
        """Terms under which these services are offered."""
        offered = [(offer, service) for service in services for offer in service.offers()]
        table = {(offer.sop_class, field): service for offer, service in offered for field in service.commands}
        return cls(table, {offer.sop_class: offer for offer, _ in offered}, max_pdu, idle_timeout_s, implementation)


class Door(Protocol):
    """Who may come in; the listener."""

    def admit(self, association: Association, request: AssociateRequest) -> Rejection | None:
        """Count the association in, or say why not."""

    def leave(self, association: Association) -> None:
        """It has ended; it may never have been admitted."""

    def fault(self, host: str, reason: str) -> None:
        """A peer broke the rules of TLS or of the upper layer."""


class Association:
    """Serves one connection. `run` is its thread's work, `abort` may be called by any other."""

    def __init__(self, connection: Connection, host: str, terms: Terms, door: Door) -> None:
        self.host = host
        self._connection = connection
        self._terms = terms
        self._door = door
        self._contexts: dict[int, Context] = {}
        self._peer_max_pdu = 0
        self._handlers: dict[Service, Handler] = {}
        """Made with the first request for the service."""
        self._sender = Sender("", host)
        self._command = bytearray()
        self._request: Request | None = None
        self._incoming: Incoming | None = None
        self._aborting = False

    def run(self) -> None:
        """Serve the peer until it leaves. Never raises."""
        outcome = ArrivalOutcome.ABORTED
        try:
            self._connection.handshake()
            if self._establish():
                outcome = self._serve()
        except PeerFault as fault:
            self._door.fault(self.host, str(fault))
            self._farewell(pdu.abort(fault.reason))
        except ssl.SSLError as error:
            self._door.fault(self.host, f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}")
        except OSError:
            self._farewell(pdu.abort(AbortReason.NOT_SPECIFIED))
        except Exception as error:
            report(error, "association_failed")
            self._farewell(pdu.abort(AbortReason.NOT_SPECIFIED))
        finally:
            self._end(outcome)
            self._connection.close()
            self._door.leave(self)

    def abort(self) -> None:
        """End the association from another thread, with an A-ABORT to the peer."""
        self._aborting = True
        self._connection.interrupt()

    def cut(self) -> None:
        """End it although the peer takes nothing any more, not even an A-ABORT."""
        self._connection.interrupt(socket.SHUT_RDWR)

    def _establish(self) -> bool:
        """Negotiate; False where there is no association."""
        received = self._connection.read()
        if received is None:
            return False
        if received.kind != PduType.ASSOCIATE_RQ:
            raise PeerFault("something else than an A-ASSOCIATE-RQ came first", AbortReason.UNEXPECTED_PDU)
        request = decode_request(received.body)
        rejection = self._door.admit(self, request)
        if rejection is not None:
            self._farewell(pdu.reject(*rejection.codes))
            return False
        terms = self._terms
        answer, contexts = encode_acceptance(request, terms.offers, max_pdu=terms.max_pdu, implementation=terms.implementation)
        self._contexts = {c.context_id: c for c in contexts}
        self._peer_max_pdu = request.max_pdu
        self._sender = Sender(request.calling_ae_title, self.host)
        self._connection.be_patient(terms.idle_timeout_s)
        self._connection.send(answer)
        return True

    def _serve(self) -> ArrivalOutcome:
        while True:
            received = self._connection.read()
            if received is None:
                if self._aborting:
                    self._farewell(pdu.abort())
                return ArrivalOutcome.ABORTED
            if received.kind == PduType.DATA:
                self._take(received)
            elif received.kind == PduType.RELEASE_RQ:
                # what the sender takes for finished is written down as finished before it hears so
                self._end(ArrivalOutcome.RELEASED)
                self._farewell(pdu.release_response())
                return ArrivalOutcome.RELEASED
            elif received.kind == PduType.ABORT:
                return ArrivalOutcome.ABORTED
            else:
                raise PeerFault("a PDU came out of turn", AbortReason.UNEXPECTED_PDU)

    def _take(self, received: Pdu) -> None:
        for fragment in pdu.fragments(received.body):
            context = self._contexts.get(fragment.context_id)
            if context is None:
                raise PeerFault("a PDV names a presentation context that was not accepted")
            if fragment.command:
                self._take_command(fragment, context)
            elif self._request is None or self._incoming is None or context is not self._request.context:
                raise PeerFault("a data set comes without its command set")
            else:
                self._incoming.write(fragment.data)
                if fragment.last:
                    self._answer(self._request, self._incoming)

    def _take_command(self, fragment: Fragment, context: Context) -> None:
        if self._incoming is not None:
            raise PeerFault("a command set comes within a data set")
        self._command += fragment.data
        if len(self._command) > LONGEST_COMMAND_SET:
            raise PeerFault("a command set is too long")
        if not fragment.last:
            return
        command = Command.decode(bytes(self._command))
        self._command.clear()
        request = Request(command, context)
        incoming = self._begin(request)
        self._request, self._incoming = request, incoming
        if not command.has_data_set:
            self._answer(request, incoming)

    def _begin(self, request: Request) -> Incoming:
        service = self._terms.services.get((request.context.sop_class, request.command.field))
        if service is None:
            return Settled(UNRECOGNISED)
        try:
            handler = self._handlers.get(service)
            if handler is None:
                handler = self._handlers[service] = service.open(self._sender)
            return _Guarded(handler.begin(request), service.failure)
        except Exception as error:
            report(error, "service_failed")
            return Settled(service.failure)

    def _answer(self, request: Request, incoming: Incoming) -> None:
        self._request = self._incoming = None
        reply = incoming.finish()
        command = request.command
        if command.field & RESPONSE or command.field == CommandField.C_CANCEL_RQ:
            return  # PS3.7 9.3.2.3: not answered; and nothing of ours is under way that a response could belong to
        elements: dict[int, Value] = {Tag.STATUS: reply.status, **reply.elements}
        if reply.comment:
            elements[Tag.ERROR_COMMENT] = reply.comment
        self._send(request.context, response(command, elements, data_set=reply.data_set is not None), reply)

    def _send(self, context: Context, command: bytes, reply: Reply) -> None:
        out = pdu.data(context.context_id, command, self._peer_max_pdu, command=True)
        if reply.data_set is not None:
            out += pdu.data(context.context_id, reply.data_set, self._peer_max_pdu, command=False)
        self._connection.send(out)

    def _end(self, outcome: ArrivalOutcome) -> None:
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = self._request = None
        handlers, self._handlers = self._handlers, {}
        for handler in handlers.values():
            try:
                handler.close(outcome)
            except Exception as error:
                report(error, "association_end_failed")

    def _farewell(self, last: bytes) -> None:
        try:
            self._connection.send(last)
        except OSError:
            return
        self._connection.drain(CLOSE_TIMEOUT_S)


class _Guarded:
    """A defect of ours must not pass for success, nor end the association."""

    def __init__(self, incoming: Incoming, failure: Reply) -> None:
        self._incoming = incoming
        self._failure = failure
        self._failed = False

    def write(self, fragment: memoryview) -> None:
        if self._failed:
            return
        try:
            self._incoming.write(fragment)
        except Exception as error:
            self._give_up(error)

    def finish(self) -> Reply:
        if not self._failed:
            try:
                return self._incoming.finish()
            except Exception as error:
                self._give_up(error)
        return self._failure

    def discard(self) -> None:
        if not self._failed:
            try:
                self._incoming.discard()
            except Exception as error:
                report(error, "service_failed")

    def _give_up(self, error: Exception) -> None:
        report(error, "service_failed")
        self.discard()
        self._failed = True


def report(error: Exception, event: str) -> None:
    """Log a defect of ours: where it happened, but not its message, which may quote a data set."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    log.error(event, error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
