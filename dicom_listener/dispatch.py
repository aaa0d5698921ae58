"""DIMSE dispatch of one association (PS3.7): assembles requests from fragments, and gives each to its service."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from corewatch.arrival import ArrivalOutcome
from dicom_listener import pdu
from dicom_listener.dimse import LONGEST_COMMAND_SET, RESPONSE, Command, CommandField, Tag, Value, encode_response
from dicom_listener.negotiation import Context
from dicom_listener.pdu import Fragment, MessageFault, PeerFault
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

log = structlog.get_logger()


class MessageDispatcher:
    """Receives the messages of one association, and sends their responses.

    Parameters
    ----------
    services
        By SOP class and command field.
    contexts
        The accepted presentation contexts.
    peer_max_pdu
        Bytes of the longest P-DATA-TF that the peer accepts; 0: no limit.
    send
        Sends P-DATA-TF PDUs.
    """

    def __init__(
        self,
        services: Mapping[tuple[str, int], Service],
        contexts: tuple[Context, ...],
        sender: Sender,
        peer_max_pdu: int,
        send: Callable[[bytes], None],
    ) -> None:
        self._services = services
        self._contexts = {c.context_id: c for c in contexts}
        self._sender = sender
        self._peer_max_pdu = peer_max_pdu
        self._send = send
        self._handlers: dict[Service, Handler] = {}
        """Opened with the first request for the service."""
        self._command = bytearray()
        self._command_context: Context | None = None
        """Of the command set that is being received."""
        self._request: DimseRequest | None = None
        self._sink: RequestSink | None = None

    def receive(self, body: memoryview) -> None:
        """Take the body of a P-DATA-TF; calls `send` with the response when a request is complete.

        Raises
        ------
        PeerFault
            The P-DATA-TF, or as MessageFault its message, is invalid.
        """
        for fragment in pdu.fragments(body):
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

    def end(self, outcome: ArrivalOutcome) -> None:
        """Discard an unfinished request and close all handlers. Does nothing the second time.

        A sender that was cut off within a message had more to send: the outcome is then `INTERRUPTED`.
        """
        if self._sink is not None:
            self._sink.discard()
            self._sink = self._request = None
            outcome = ArrivalOutcome.INTERRUPTED
        handlers, self._handlers = self._handlers, {}
        for handler in handlers.values():
            try:
                handler.close(outcome)
            except Exception as error:
                report(error, "association_end_failed")

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
        service = self._services.get((request.context.sop_class, request.command.field))
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
        self._send(out)


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
