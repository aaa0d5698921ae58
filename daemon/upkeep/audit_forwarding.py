"""Passes the audit trail on to the hospital's audit record repository, once and in order; an outage only delays it."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import structlog

from config.audit import SyslogSettings
from config.settings import Settings
from conversion.elements import read_header
from corewatch.atna import ArchivePeer, Site, TrailLine, audit_message, syslog_frame
from corewatch.errors import CorewatchError
from daemon.upkeep.syslog import Unconfirmed, send
from foundation.keys import own_key
from ledger.store import Ledger
from ledger.trail import Line, Origin

log = structlog.get_logger()

PASS_ON_EVERY_S: Final = 5.0
READER: Final = "syslog"
_BATCH: Final = 200
_LONGEST_PAUSE_S: Final = 600.0
COPIES: Final = 3
"""So often a batch is sent to a receiver that closes without TLS's farewell; then it counts as read, and the trail says so."""
_PATIENT_ID: Final = 0x00100020


class Auditing:
    """Reads what is new in the trail; the ledger remembers how far it has come."""

    def __init__(
        self, ledger: Ledger, settings: Settings, to: SyslogSettings, send: Callable[[SyslogSettings, Sequence[bytes]], None] = send
    ) -> None:
        self._ledger, self._to, self._send = ledger, to, send
        self._host = socket.gethostname()
        peers = {p.name: ArchivePeer(p.ae_title, p.host) for p in settings.deliver.pacs}
        peers |= {web.name: ArchivePeer(bare, bare) for web in settings.deliver.dicomweb for bare in [_without_login(web.url)]}
        self._site = Site(to.source_id, settings.listener.ae_title, self._host, peers)
        self._received = settings.received_dir
        self._key = own_key(settings.data_dir, "patients in the audit trail")
        self._failures = 0
        self._unconfirmed = 0
        self._not_before: datetime | None = None

    def step(self, now: datetime) -> int:
        """Pass on what there is, after a failure with growing pauses; returns how many messages."""
        sent = 0
        # a clock set back must not make the pause longer than the longest
        if self._not_before is not None and timedelta() < self._not_before - now <= timedelta(seconds=_LONGEST_PAUSE_S):
            return sent
        while lines := self._ledger.trail.unread(READER, _BATCH):
            frames = [frame for line in lines if (frame := self._frame(line)) is not None]
            try:
                if frames:
                    self._send(self._to, frames)
            except CorewatchError as error:
                self._unconfirmed = self._unconfirmed + 1 if isinstance(error, Unconfirmed) else 0
                if self._unconfirmed < COPIES:
                    self._failed(now, error)
                    return sent
                log.error("a part of the audit trail was passed on without an answer", lines=len(frames), why=str(error))
                self._ledger.note("syslog.unconfirmed", first=lines[0].id, last=lines[-1].id)
            self._unconfirmed = 0
            self._ledger.trail.read(READER, lines[-1].id)
            sent += len(frames)
            if self._failures:
                log.info("the audit trail is passed on again")
            self._failures, self._not_before = 0, None
        return sent

    def _failed(self, now: datetime, error: CorewatchError) -> None:
        if not self._failures:
            log.error("the audit trail cannot be passed on; it waits in the ledger", why=str(error))
        pause_s = min(PASS_ON_EVERY_S * 2 ** min(self._failures, 10), _LONGEST_PAUSE_S)
        self._failures += 1
        self._not_before = now + timedelta(seconds=pause_s)

    def _frame(self, line: Line) -> bytes | None:
        origin = Origin(None, ()) if line.case_id is None else self._ledger.trail.origin(line.case_id)
        patient = self._patient(origin.image)
        fact = TrailLine(line.at, line.event, line.detail, line.case_id, origin.study_uid, origin.senders, patient)
        xml = audit_message(fact, self._site)
        return None if xml is None else syslog_frame(line.id, line.at, self._host, str(os.getpid()), xml)

    def _patient(self, image: str | None) -> str:
        """The Patient ID of an image or a pseudonym of it; empty where there is none, or the image is no longer there."""
        if image is None:
            return ""
        try:
            patient_id = str(read_header(self._received / image, [_PATIENT_ID]).dataset.get("PatientID") or "").strip()
        except (OSError, CorewatchError):
            return ""
        if self._to.patient_id or not patient_id:
            return patient_id
        return hmac.new(self._key, patient_id.encode(), hashlib.sha256).hexdigest()[:32]


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
