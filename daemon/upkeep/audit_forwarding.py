"""Audit forwarding: sends the audit trail to the hospital's audit record repository by syslog over TLS (RFC 5425).

Each line is sent once and in order; an outage only delays it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import structlog

from config.audit import SyslogSettings
from config.settings import Settings
from conversion.elements import read_header
from corewatch.atna import ArchivePeer, Site, TrailLine, audit_message, syslog_frame
from corewatch.errors import CorewatchError, OperatorNeeded, RetryLater
from foundation.backoff import Backoff, RetryTimer
from foundation.keys import installation_key
from ledger.audit_trail import AuditLine, CaseOrigin
from ledger.store import Ledger

log = structlog.get_logger()

_BACKOFF: Final = Backoff(5.0, 600.0)
READER: Final = "syslog"
_BATCH: Final = 200
MAX_UNCONFIRMED: Final = 3
"""Attempts at a batch that the receiver does not confirm by close_notify; then it counts as read, and the trail records that."""
_PATIENT_ID: Final = 0x00100020


class Unconfirmed(RetryLater):
    """Everything was written, but the server closed the connection without TLS's close_notify. It has probably read everything."""


def send_syslog(settings: SyslogSettings, frames: Sequence[bytes]) -> None:
    """Send frames in order over one connection (RFC 5425).

    Syslog over TLS has no answers: bytes written into a connection that breaks are lost without an error. So each batch ends with
    TLS's close_notify, and counts as sent only when the server has answered it, which it does after reading everything before it
    (RFC 5425 4.4; rsyslog does).

    Raises
    ------
    Unconfirmed, RetryLater, OperatorNeeded
        It is unknown how many of them were received; send all of them again.
    """
    where = f"audit repository {settings.host}:{settings.port}"
    try:
        with socket.create_connection((settings.host, settings.port), settings.timeout_s) as plain:
            secured = _context(settings).wrap_socket(plain, server_hostname=settings.host)
            with secured:
                secured.sendall(b"".join(frames))
                try:
                    secured.unwrap()
                except ssl.SSLEOFError:
                    raise Unconfirmed(
                        f"{where} closes without TLS's close_notify, which RFC 5425 4.4 requires", "use one that answers (rsyslog)"
                    ) from None
    except ssl.SSLCertVerificationError as error:
        raise OperatorNeeded(
            f"the certificate of {where} cannot be trusted ({error.verify_message})", "check its authority"
        ) from None
    except ssl.SSLEOFError:
        raise RetryLater(f"{where} broke off without TLS's close_notify", "look at its log") from None
    except ssl.SSLError as error:
        raise OperatorNeeded(f"no TLS with {where} ({error.reason})", "check audit.syslog (port, certificate and key)") from None
    except OSError as error:
        raise RetryLater(
            f"{where} cannot be reached or broke off ({type(error).__name__})", "check host, port and firewall"
        ) from None


def _context(settings: SyslogSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if settings.authority is None else str(settings.authority))
    if settings.certificate is not None:
        context.load_cert_chain(str(settings.certificate), None if settings.key is None else str(settings.key))
    return context


class AuditForwarder:
    """Sends new lines of the audit trail; the ledger stores the position."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        to: SyslogSettings,
        send: Callable[[SyslogSettings, Sequence[bytes]], None] = send_syslog,
    ) -> None:
        self._ledger, self._to, self._send = ledger, to, send
        self._host = socket.gethostname()
        peers = {p.name: ArchivePeer(p.ae_title, p.host) for p in settings.deliver.pacs}
        peers |= {web.name: ArchivePeer(bare, bare) for web in settings.deliver.dicomweb for bare in [_without_login(web.url)]}
        self._site = Site(to.source_id, settings.listener.ae_title, self._host, peers)
        self._received = settings.received_dir
        self._key = installation_key(settings.data_dir, "patients in the audit trail")
        self._retry = RetryTimer(_BACKOFF)
        self._unconfirmed = 0

    def step(self, now: datetime) -> int:
        """Send all new lines; returns how many messages were sent. After a failure the pauses grow."""
        sent = 0
        if not self._retry.is_due(now):
            return sent
        while lines := self._ledger.audit_trail.unread(READER, _BATCH):
            frames = [frame for line in lines if (frame := self._frame(line)) is not None]
            try:
                if frames:
                    self._send(self._to, frames)
            except CorewatchError as error:
                self._unconfirmed = self._unconfirmed + 1 if isinstance(error, Unconfirmed) else 0
                if self._unconfirmed < MAX_UNCONFIRMED:
                    self._failed(now, error)
                    return sent
                log.error("audit_batch_unconfirmed", lines=len(frames), why=str(error))
                self._ledger.note("syslog.unconfirmed", first=lines[0].id, last=lines[-1].id)
            self._unconfirmed = 0
            self._ledger.audit_trail.read(READER, lines[-1].id)
            sent += len(frames)
            if failures := self._retry.succeeded():
                log.info("audit_forwarding_recovered", failures=failures)
        return sent

    def _failed(self, now: datetime, error: CorewatchError) -> None:
        if not self._retry.failures:
            log.error("audit_forwarding_failed", why=str(error), effect="the trail waits in the ledger")
        self._retry.failed(now)

    def _frame(self, line: AuditLine) -> bytes | None:
        origin = CaseOrigin(None, ()) if line.case_id is None else self._ledger.audit_trail.origin(line.case_id)
        patient = self._patient(origin.image)
        fact = TrailLine(line.at, line.event, line.detail, line.case_id, origin.study_uid, origin.senders, patient)
        xml = audit_message(fact, self._site)
        return None if xml is None else syslog_frame(line.id, line.at, self._host, str(os.getpid()), xml)

    def _patient(self, image: str | None) -> str:
        """The Patient ID in a stored instance, or its pseudonym; empty when there is none, or the file was removed."""
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
