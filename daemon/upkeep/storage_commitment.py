"""Storage commitment (PS3.4 J): records reports of a PACS for the deliveries that wait for them, and answers requests to us."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from config.intake import Peer
from config.settings import Settings
from corewatch.errors import CorewatchError
from corewatch.storage_commitment import NO_SUCH_OBJECT, CommitmentFailure, CommitmentReport, InstanceReference
from foundation.addresses import CachedResolver, Resolver, host_matches, parse_address
from foundation.backoff import Backoff
from ledger.commitment_inbox import CommitmentInbox, CommitmentReportMessage, CommitmentRequestMessage
from ledger.commitment_requests_received import ReceivedCommitmentRequest
from ledger.store import Ledger

log = structlog.get_logger()

SendReport = Callable[[Peer, CommitmentReport], object]
"""Sends a report to a peer; raises `CorewatchError` when the peer does not take it."""

SETTLE = timedelta(seconds=30)
"""An instance that is unknown this long after the request is not here: a stored instance is in the ledger within a second."""

BACKOFF = Backoff(10.0, 3600.0)
"""Pause after a peer could not be reached: as long as has passed since its request, within these bounds."""

GIVE_UP_AFTER = timedelta(hours=48)
"""A peer that could not be reached this long after its request gets no answer."""

NO_PORT = "set `port` of its entry in listener.peers to the port where it takes the answer, and let it ask again"
"""Why a peer without a known port is not answered."""

AMBIGUOUS_PEER = "several entries of listener.peers have its AE title, and none of them its address"
"""Why a peer is not answered now."""

SEND_TIMEOUT_S = 10.0
"""Timeout of an association with a peer that we answer."""

CLASS_CONFLICT = 0x0119
"""Failure Reason: class-instance conflict (PS3.3 C.14.1.1)."""


class StorageCommitment:
    """Handles commitment requests and reports. Used by one thread.

    Parameters
    ----------
    send
        Sends a report to a peer; None: over the network.
    resolve
        Resolves host names, to tell peers with the same AE title apart; None: the system's resolver, cached.
    """

    def __init__(self, ledger: Ledger, settings: Settings, send: SendReport | None = None, resolve: Resolver | None = None) -> None:
        self._ledger = ledger
        self._inbox = CommitmentInbox(settings.commitment_dir)
        self._received = settings.received_dir
        self._peers = settings.listener.peers
        self._send = send or send_over_network(settings)
        self._resolve = resolve or CachedResolver()

    def step(self, now: datetime) -> int:
        """Record what the listener received, expire deliveries that waited too long, answer requests; returns how much was done."""
        return self._record_received() + self._ledger.commitment_requests_sent.expire(now) + self._answer_all(now)

    def _record_received(self) -> int:
        done = 0
        for path, heard in self._inbox.messages():
            if isinstance(heard, CommitmentRequestMessage):
                self._ledger.commitment_requests_received.add(
                    heard.transaction_uid, heard.peer_ae_title, heard.peer_host, heard.references, heard.at
                )
            elif isinstance(heard, CommitmentReportMessage):
                if not self._ledger.commitment_requests_sent.report(heard.report):
                    log.warning("commitment_report_unexpected", peer=heard.peer_ae_title)
            else:
                log.error("commitment_record_damaged", file=path.name)
                path.rename(path.with_suffix(".damaged"))
                continue
            path.unlink()  # it is in the ledger now
            done += 1
        return done

    def _answer_all(self, now: datetime) -> int:
        away: set[tuple[str, str]] = set()
        return sum(self._answer(owed, now, away) for owed in self._ledger.commitment_requests_received.due(now))

    def _peers_of(self, owed: ReceivedCommitmentRequest) -> list[Peer]:
        """The requesting peer, among those with a known port; several when they cannot be distinguished."""
        titled = [p for p in self._peers if p.ae_title == owed.peer_ae_title and p.port is not None]
        if len(titled) < 2:
            return titled  # its request may come from another address, such as this machine's own
        address = parse_address(owed.peer_host)
        here = [p for p in titled if address is not None and host_matches(p.host, address, self._resolve)]
        return here[:1] or titled

    def _answer(self, owed: ReceivedCommitmentRequest, now: datetime, away: set[tuple[str, str]]) -> bool:
        ledger = self._ledger.commitment_requests_received
        peers = self._peers_of(owed)
        if not peers:  # no retry: only an operator can say which port it listens on
            ledger.end(owed, "given_up", NO_PORT)
            log.error("commitment_request_not_answerable", peer=owed.peer_ae_title, remedy=NO_PORT)
            return False
        report = self._report(owed)
        if any(f.reason == NO_SUCH_OBJECT for f in report.failed) and now - owed.asked_at < SETTLE:
            ledger.postpone(owed, now + timedelta(seconds=1), "waits for the instances to be indexed", counts=False)
            return False
        peer, who = peers[0], (owed.peer_ae_title, owed.peer_host)
        why = "it could not be reached just now"
        if len(peers) > 1:
            why = AMBIGUOUS_PEER
        elif who not in away:  # a peer that is down delays the others once only
            try:
                self._send(peer if "/" not in peer.host else peer.model_copy(update={"host": owed.peer_host}), report)
            except CorewatchError as error:
                why = str(error)
                away.add(who)
            else:
                ledger.end(owed, "answered", f"{len(report.committed)} objects committed, {len(report.failed)} not")
                log.info("commitment_answered", peer=owed.peer_ae_title, committed=len(report.committed), failed=len(report.failed))
                return True
        waited = now - owed.asked_at
        if waited >= GIVE_UP_AFTER:
            ledger.end(owed, "given_up", why)
            log.error("commitment_answer_given_up", peer=owed.peer_ae_title, why=why)
            return False
        wait_s = BACKOFF.delay_after_s(waited.total_seconds())
        ledger.postpone(owed, now + timedelta(seconds=wait_s), why)
        log.warning(
            "commitment_answer_postponed",
            peer=owed.peer_ae_title,
            why=why,
            retry_in_s=wait_s,
        )
        return False

    def _report(self, owed: ReceivedCommitmentRequest) -> CommitmentReport:
        """The instances that we commit to: those in the ledger and on the disk."""
        kept = self._ledger.commitment_requests_received.stored_instances([r.sop_instance_uid for r in owed.references])
        committed: list[InstanceReference] = []
        failed: list[CommitmentFailure] = []
        for reference in owed.references:
            found = kept.get(reference.sop_instance_uid)
            if found is None or not (self._received / found.path).is_file():
                failed.append(CommitmentFailure(reference, NO_SUCH_OBJECT))
            elif found.sop_class_uid != reference.sop_class_uid:
                failed.append(CommitmentFailure(reference, CLASS_CONFLICT))
            else:
                committed.append(reference)
        return CommitmentReport(owed.transaction_uid, tuple(committed), tuple(failed))


def send_over_network(settings: Settings) -> SendReport:
    """Sends reports over new associations, with the listener's AE title and TLS files."""

    def send(peer: Peer, report: CommitmentReport) -> None:
        # imported when first needed: most sites get no request
        from foundation.dicom_client.association import PeerAddress
        from foundation.dicom_client.commitment import send_report

        files = settings.listener.tls
        tls = None if files is None else files.for_client
        send_report(PeerAddress(peer.host, peer.port or 0, peer.ae_title, settings.listener.ae_title, SEND_TIMEOUT_S, tls), report)

    return send
