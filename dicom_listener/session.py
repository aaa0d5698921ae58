"""One association's arrival: opened with its first image, closed with the association."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from corewatch.arrival import ArrivalOutcome, ArrivalSource
from corewatch.clock import Clock
from dicom_listener.disk import DiskGuard
from dicom_listener.instance import StoreRequest, check_instance, file_header
from dicom_listener.status import ASSOCIATION_ENDED, OUT_OF_RESOURCES, SUCCESS, StorageStatus
from ledger.spool import ArrivalWriter

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Spool:
    """Where sessions write, and what they need for it."""

    received_dir: Path
    guard: DiskGuard
    clock: Clock


class Session:
    """Stores what one association sends.

    `store` runs in the association's thread, `close` there or in the thread that stops the listener; a lock keeps them apart.
    """

    def __init__(self, spool: Spool, peer_ae_title: str, peer_host: str) -> None:
        self._spool = spool
        self._peer_ae_title = peer_ae_title
        self._peer_host = peer_host
        self._lock = threading.Lock()
        self._writer: ArrivalWriter | None = None
        self._closed = False
        self._opened_at = time.monotonic()
        self._stored = self._duplicates = self._refused = 0

    def store(self, request: StoreRequest, data: memoryview) -> StorageStatus:
        """Store one instance and return the answer; `SUCCESS` only after it survives a power loss."""
        with self._lock:
            status = check_instance(request, data) or self._write(request, [file_header(request), data])
            if not status.success:
                self._refused += 1
            return status

    def close(self, outcome: ArrivalOutcome) -> None:
        """End the arrival; does nothing where no image came or it has ended before."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._writer is None:
                if self._refused:
                    self._log_end(outcome, arrival=None)
                return
            try:
                self._writer.close(outcome)
            except OSError as error:
                # the images are safe; without its record of closing the arrival counts as open and ends by idle time
                self._spool.guard.failed(error)
            self._log_end(outcome, arrival=self._writer.folder.name)

    def _write(self, request: StoreRequest, chunks: Sequence[bytes | memoryview]) -> StorageStatus:
        if self._closed:
            return ASSOCIATION_ENDED
        guard = self._spool.guard
        try:
            if not guard.admits(sum(len(c) for c in chunks)):
                return OUT_OF_RESOURCES
            if self._writer is None:
                self._writer = self._open()
            stored = self._writer.store_instance(request.sop_instance_uid, chunks)
        except OSError as error:
            guard.failed(error)
            return OUT_OF_RESOURCES
        guard.stored()
        self._stored += not stored.duplicate
        self._duplicates += stored.duplicate
        return SUCCESS

    def _open(self) -> ArrivalWriter:
        writer = ArrivalWriter.open(
            self._spool.received_dir,
            ArrivalSource.C_STORE,
            peer_ae_title=self._peer_ae_title,
            peer_host=self._peer_host,
            clock=self._spool.clock,
        )
        log.info("arrival_opened", arrival=writer.folder.name, peer_ae_title=self._peer_ae_title, peer_host=self._peer_host)
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
            peer_ae_title=self._peer_ae_title,
            peer_host=self._peer_host,
        )
