"""Storage commitment at the listener (PS3.4 J.3): records N-ACTION requests and N-EVENT-REPORT results before it answers them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import structlog
from pydicom import uid
from pydicom.filereader import read_dataset
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from corewatch.arrival import ArrivalOutcome
from corewatch.clock import Clock
from dicom_listener.dimse import CommandField, Tag
from dicom_listener.negotiation import Offer
from dicom_listener.services import (
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    BufferedRequest,
    DimseRequest,
    RequestSink,
    Response,
    Sender,
)
from foundation.dicom_client.commitment_messages import ALL_COMMITTED, REQUEST, SOME_FAILED, decode_report, decode_request
from ledger.commitment_inbox import CommitmentInbox, CommitmentMessage, CommitmentReportMessage, CommitmentRequestMessage

log = structlog.get_logger()

NO_SUCH_INSTANCE: Final = Response(0x0112, "not the storage commitment instance")
NO_SUCH_EVENT: Final = Response(0x0113, "no such event type")
NO_SUCH_ACTION: Final = Response(0x0123, "no such action type")
DISK_UNAVAILABLE: Final = Response(RESOURCE_LIMITATION, "out of resources: disk full or not writable")
INVALID_ARGUMENT: Final = 0x0115
"""Statuses of PS3.7 C.5."""


class StorageCommitment:
    """Storage commitment service: N-ACTION as SCP, N-EVENT-REPORT as SCU. Stateless: one object serves all associations.

    Answers 0000H only when the message survives a power loss; the daemon acts on it.
    """

    commands = frozenset({int(CommandField.N_ACTION_RQ), int(CommandField.N_EVENT_REPORT_RQ)})
    failure = PROCESSING_FAILURE

    def __init__(self, inbox: CommitmentInbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock

    def offers(self) -> Sequence[Offer]:
        """The Push Model. A PACS that reports a result to us proposes to be its SCP (PS3.7 D.3.3.4)."""
        syntaxes = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)
        return (Offer(StorageCommitmentPushModel, syntaxes, peer_may_be_scp=True),)

    def open(self, sender: Sender) -> _Handler:
        """A handler for this peer."""
        return _Handler(self._inbox, self._clock, sender)


class _Handler:
    def __init__(self, inbox: CommitmentInbox, clock: Clock, sender: Sender) -> None:
        self._inbox = inbox
        self._clock = clock
        self._sender = sender

    def begin(self, request: DimseRequest) -> RequestSink:
        return BufferedRequest(request, self._answer)

    def close(self, outcome: ArrivalOutcome) -> None:
        pass

    def _answer(self, request: DimseRequest, data: bytes) -> Response:
        command = request.command
        is_action = command.field == CommandField.N_ACTION_RQ
        instance = command.uid(Tag.REQUESTED_SOP_INSTANCE_UID if is_action else Tag.AFFECTED_SOP_INSTANCE_UID)
        kind_tag = Tag.ACTION_TYPE_ID if is_action else Tag.EVENT_TYPE_ID
        kind = command.number(kind_tag)
        if instance != StorageCommitmentPushModelInstance:
            return NO_SUCH_INSTANCE
        if kind is None or kind not in ({REQUEST} if is_action else {ALL_COMMITTED, SOME_FAILED}):
            return NO_SUCH_ACTION if is_action else NO_SUCH_EVENT
        try:
            message = self._decode(data, request.context.transfer_syntax, is_action=is_action)
        except Exception as error:  # a decoder may raise anything on foreign bytes; only our own texts are sent back
            comment = str(error)[:64] if type(error) is ValueError else "the data set cannot be read"
            return Response(INVALID_ARGUMENT, comment)
        try:
            self._inbox.put(message)
        except OSError as error:
            log.error("commitment_not_written", error=error.strerror or type(error).__name__)
            return DISK_UNAVAILABLE
        log.info(
            "commitment_received", kind=type(message).__name__, peer_ae_title=message.peer_ae_title, peer_host=message.peer_host
        )
        return Response(0x0000, elements={kind_tag: kind})

    def _decode(self, data: bytes, transfer_syntax: str, *, is_action: bool) -> CommitmentMessage:
        dataset = read_dataset(BytesIO(data), transfer_syntax == uid.ImplicitVRLittleEndian, is_little_endian=True)
        who, now = (self._sender.ae_title, self._sender.host), self._clock()
        if is_action:
            return CommitmentRequestMessage(*who, *decode_request(dataset), now)
        return CommitmentReportMessage(*who, decode_report(dataset), now)
