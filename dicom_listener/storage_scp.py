"""C-STORE SCP: the instances of one association become one arrival in the spool (PS3.4 Annex B).

The arrival is opened with the first valid instance and closed with the association.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from corewatch.arrival import ArrivalOutcome, ArrivalSource
from corewatch.clock import Clock
from corewatch.units import MIB
from dicom_listener.contexts import storage_offers
from dicom_listener.dimse import CommandField, Tag
from dicom_listener.disk_guard import DiskGuard
from dicom_listener.negotiation import Offer
from dicom_listener.part10 import HEAD_BYTES, StoreRequest, check_instance, file_header
from dicom_listener.services import DimseRequest, Response, Sender
from dicom_listener.storage_status import INTERNAL_ERROR, OUT_OF_RESOURCES, SUCCESS, TOO_LARGE, StorageStatus
from ledger.spool import ArrivalWriter, IncomingInstance

log = structlog.get_logger()

CHECK_DISK_EVERY = 8 * MIB
"""Bytes of one instance between two checks of the free disk."""

RateLimit = Callable[[str], None]
"""Waits until the peer with this address may have its next response."""

OnRefused = Callable[[Sender, StorageStatus], None]
"""Reports an instance that was refused."""


def report_nothing(_sender: Sender, _status: StorageStatus) -> None:
    """Report no refusal."""


@dataclass(frozen=True, slots=True)
class SpoolTarget:
    """The spool folder with its disk guard, clock and size limit.

    Attributes
    ----------
    max_instance_bytes
        Bytes of the largest instance that is accepted.
    """

    received_dir: Path
    guard: DiskGuard
    clock: Clock
    max_instance_bytes: int = 2**62


class Storage:
    """C-STORE service for every storage SOP class."""

    commands = frozenset({int(CommandField.C_STORE_RQ)})
    failure = INTERNAL_ERROR.response()

    def __init__(
        self, spool: SpoolTarget, rate_limit: RateLimit = lambda _host: None, on_refused: OnRefused = report_nothing
    ) -> None:
        self._spool = spool
        self._rate_limit = rate_limit
        self._on_refused = on_refused

    def offers(self) -> tuple[Offer, ...]:
        """Presentation contexts that are accepted, see `contexts`."""
        return storage_offers()

    def open(self, sender: Sender) -> StorageSession:
        """The storage session of a new association."""
        return StorageSession(self._spool, sender, self._rate_limit, self._on_refused)


class StorageSession:
    """Stores the instances of one association in one arrival."""

    def __init__(
        self,
        spool: SpoolTarget,
        sender: Sender,
        rate_limit: RateLimit = lambda _host: None,
        on_refused: OnRefused = report_nothing,
    ) -> None:
        self._on_refused = on_refused
        self.spool = spool
        self._sender = sender
        self._rate_limit = rate_limit
        self._writer: ArrivalWriter | None = None
        self._opened_at = time.monotonic()
        self._stored = self._duplicates = self._refused = 0

    def begin(self, request: DimseRequest) -> InstanceSink:
        """The sink for a C-STORE-RQ."""
        command = request.command
        return InstanceSink(
            self,
            StoreRequest(
                sop_class_uid=command.uid(Tag.AFFECTED_SOP_CLASS_UID),
                sop_instance_uid=command.uid(Tag.AFFECTED_SOP_INSTANCE_UID),
                transfer_syntax_uid=request.context.transfer_syntax,
            ),
        )

    def begin_instance(self, sop_instance_uid: str) -> IncomingInstance:
        """A file in the arrival's folder, for an instance that passed its checks.

        Raises
        ------
        OSError
            The data folder cannot be written.
        """
        if self._writer is not None and self._writer.ended:
            # the association was idle until the daemon ended its first arrival
            self._log_end(ArrivalOutcome.ABORTED, arrival=self._writer.folder.name)
            self._writer.abandon()
            self._writer = None
            self._stored = self._duplicates = self._refused = 0
        if self._writer is None:
            self._writer = self._open()
        return self._writer.begin_instance(sop_instance_uid)

    def count(self, *, duplicate: bool) -> None:
        """Count a stored instance."""
        self._stored += not duplicate
        self._duplicates += duplicate

    def answer(self, status: StorageStatus) -> Response:
        """The response for an instance, as soon as the rate limit allows it."""
        if not status.success:
            self._refused += 1
            self._on_refused(self._sender, status)
        self._rate_limit(self._sender.host)
        return status.response()

    def close(self, outcome: ArrivalOutcome) -> None:
        """Close the arrival, if an instance was stored."""
        if self._writer is None:
            if self._refused:
                self._log_end(outcome, arrival=None)
            return
        try:
            self._writer.close(outcome)
        except OSError as error:
            # the instances are safe; without its closing record the arrival counts as open and ends by idle time
            self.spool.guard.failed(error)
        self._log_end(outcome, arrival=self._writer.folder.name)

    def _open(self) -> ArrivalWriter:
        writer = ArrivalWriter.open(
            self.spool.received_dir,
            ArrivalSource.C_STORE,
            peer_ae_title=self._sender.ae_title,
            peer_host=self._sender.host,
            clock=self.spool.clock,
        )
        log.info("arrival_opened", arrival=writer.folder.name, peer_ae_title=self._sender.ae_title, peer_host=self._sender.host)
        return writer

    def _log_end(self, outcome: ArrivalOutcome, arrival: str | None) -> None:
        log.info(
            "arrival_closed",
            arrival=arrival,
            outcome=str(outcome),
            stored=self._stored,
            duplicates=self._duplicates,
            refused=self._refused,
            seconds=round(time.monotonic() - self._opened_at, 3),
            peer_ae_title=self._sender.ae_title,
            peer_host=self._sender.host,
        )


class InstanceSink:
    """Sink for the data set of one C-STORE-RQ: checks its beginning, then streams it to a file.

    At most the beginning is held in memory, until the data set is known to be the instance that the request announces. After the
    first reason to refuse it, the rest is skipped.
    """

    def __init__(self, session: StorageSession, request: StoreRequest) -> None:
        self._session = session
        self._request = request
        self._head = bytearray()
        self._file: IncomingInstance | None = None
        self._refusal: StorageStatus | None = None
        self._size = 0
        self._disk_checked_at = 0

    def write(self, fragment: memoryview) -> None:
        """Check or write the next fragment of the data set."""
        if self._refusal is not None:
            return
        self._size += len(fragment)
        if self._size > self._session.spool.max_instance_bytes:
            self._refuse(TOO_LARGE)
        elif self._file is not None:
            self._append(self._file, fragment)
        elif not self._head and len(fragment) >= HEAD_BYTES:
            self._start(fragment)
        else:
            self._head += fragment
            if len(self._head) >= HEAD_BYTES:
                self._start(memoryview(self._head))

    def finish(self) -> Response:
        """The data set is complete. `SUCCESS` only when its file survives a power loss."""
        if self._refusal is None and self._file is None:
            self._start(memoryview(self._head))
        if self._refusal is None and self._file is not None:
            self._keep(self._file)
        return self._session.answer(self._refusal or SUCCESS)

    def discard(self) -> None:
        """Remove the unfinished file."""
        if self._file is not None:
            self._file.discard()

    def _start(self, head: memoryview) -> None:
        status = check_instance(self._request, head)
        if status is not None:
            self._refuse(status)
            return
        guard = self._session.spool.guard
        try:
            if not guard.admits(len(head)):
                self._refuse(OUT_OF_RESOURCES)
                return
            self._file = self._session.begin_instance(self._request.sop_instance_uid)
            self._file.write(file_header(self._request))
            self._file.write(head)
        except OSError as error:
            guard.failed(error)
            self._refuse(OUT_OF_RESOURCES)

    def _append(self, file: IncomingInstance, fragment: memoryview) -> None:
        guard = self._session.spool.guard
        try:
            if self._size - self._disk_checked_at > CHECK_DISK_EVERY:
                self._disk_checked_at = self._size
                if not guard.admits(CHECK_DISK_EVERY):
                    self._refuse(OUT_OF_RESOURCES)
                    return
            file.write(fragment)
        except OSError as error:
            guard.failed(error)
            self._refuse(OUT_OF_RESOURCES)

    def _keep(self, file: IncomingInstance) -> None:
        guard = self._session.spool.guard
        try:
            stored = file.keep()
        except OSError as error:
            guard.failed(error)
            self._refuse(OUT_OF_RESOURCES)
            return
        guard.stored()
        self._session.count(duplicate=stored.duplicate)

    def _refuse(self, status: StorageStatus) -> None:
        self._refusal = status
        self._head = bytearray()
        self.discard()
