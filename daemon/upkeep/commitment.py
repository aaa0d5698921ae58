"""Storage commitment in the daemon: answers from a PACS wake the deliveries that wait for them, and who asked us is answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from config.intake import Peer
from config.settings import Settings
from corewatch.errors import CorewatchError
from corewatch.storage_commitment import NO_SUCH_OBJECT, CommitmentFailure, CommitmentReport, InstanceReference
from foundation.addresses import RememberedNames, Resolver, host_matches, parse_address
from ledger.commitment_inbox import CommitmentInbox, HeardReport, HeardRequest
from ledger.commitments_owed import Owed
from ledger.store import Ledger

log = structlog.get_logger()

SendReport = Callable[[Peer, CommitmentReport], object]
"""Brings an answer to a peer; raises `CorewatchError` where it is not taken."""

SETTLE = timedelta(seconds=30)
"""What is not known so long after it was asked for is not here: an image that was just stored gets its row within a second."""

FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=1)
GIVEN_UP_AFTER = timedelta(hours=48)
"""A peer that cannot be reached is tried again after as long as has passed since it asked, within these bounds."""

NO_PORT = "set `port` of its entry in listener.peers to where it takes the answer, and let it ask again"
"""Why a peer is not answered that we do not know how to call."""

NOT_SURE = "several entries of listener.peers have its AE title, and none its address"
"""Why a peer is not answered now."""

SEND_TIMEOUT_S = 10.0
"""Longest wait for a peer that we answer."""

CLASS_CONFLICT = 0x0119
"""Failure Reason: class-instance conflict (PS3.3 C.14.1.1)."""


class Commitment:
    """One look at everything that has to do with storage commitment. Used by one thread.

    Parameters
    ----------
    send
        Brings an answer to a peer.
    resolve
        Tells peers of one AE title apart; None: the system's, remembered.
    """

    def __init__(self, ledger: Ledger, settings: Settings, send: SendReport, resolve: Resolver | None = None) -> None:
        self._ledger = ledger
        self._inbox = CommitmentInbox(settings.commitment_dir)
        self._received = settings.received_dir
        self._peers = settings.listener.peers
        self._send = send
        self._resolve = resolve or RememberedNames()

    def step(self, now: datetime) -> int:
        """Take in what the listener heard, look at deliveries that waited too long, answer who asked; returns how much was done."""
        return self._take_in() + self._ledger.commitments_asked.expire(now) + self._answer_all(now)

    def _take_in(self) -> int:
        done = 0
        for path, heard in self._inbox.heard():
            if isinstance(heard, HeardRequest):
                self._ledger.commitments_owed.add(
                    heard.transaction_uid, heard.peer_ae_title, heard.peer_host, heard.references, heard.at
                )
            elif isinstance(heard, HeardReport):
                if not self._ledger.commitments_asked.report(heard.report):
                    log.warning("an answer on storage commitment that nobody waits for", peer=heard.peer_ae_title)
            else:
                log.error("a record of storage commitment is damaged", file=path.name)
                path.rename(path.with_suffix(".damaged"))
                continue
            path.unlink()  # the ledger has it
            done += 1
        return done

    def _answer_all(self, now: datetime) -> int:
        away: set[tuple[str, str]] = set()
        return sum(self._answer(owed, now, away) for owed in self._ledger.commitments_owed.due(now))

    def _peers_of(self, owed: Owed) -> list[Peer]:
        """Who asked, among those that we know how to call; several where that cannot be told."""
        titled = [p for p in self._peers if p.ae_title == owed.peer_ae_title and p.port is not None]
        if len(titled) < 2:
            return titled  # it may have asked from another address, such as this machine's own
        address = parse_address(owed.peer_host)
        here = [p for p in titled if address is not None and host_matches(p.host, address, self._resolve)]
        return here[:1] or titled

    def _answer(self, owed: Owed, now: datetime, away: set[tuple[str, str]]) -> bool:
        ledger = self._ledger.commitments_owed
        peers = self._peers_of(owed)
        if not peers:  # waiting helps nothing: only an operator can say where it is to be called
            ledger.end(owed, "given_up", NO_PORT)
            log.error("a request for storage commitment cannot be answered", peer=owed.peer_ae_title, why=NO_PORT)
            return False
        report = self._report(owed)
        if any(f.reason == NO_SUCH_OBJECT for f in report.failed) and now - owed.asked_at < SETTLE:
            ledger.postpone(owed, now + timedelta(seconds=1), "waits for the images to be taken in", counts=False)
            return False
        peer, who = peers[0], (owed.peer_ae_title, owed.peer_host)
        why = "it could not be reached just now"
        if len(peers) > 1:
            why = NOT_SURE
        elif who not in away:  # one that is down holds up the others once only
            try:
                self._send(peer if "/" not in peer.host else peer.model_copy(update={"host": owed.peer_host}), report)
            except CorewatchError as error:
                why = str(error)
                away.add(who)
            else:
                ledger.end(owed, "answered", f"{len(report.committed)} objects committed, {len(report.failed)} not")
                log.info("commitment answered", peer=owed.peer_ae_title, committed=len(report.committed), failed=len(report.failed))
                return True
        waited = now - owed.asked_at
        if waited >= GIVEN_UP_AFTER:
            ledger.end(owed, "given_up", why)
            log.error("an answer on storage commitment was given up", peer=owed.peer_ae_title, why=why)
            return False
        wait = min(max(FIRST_WAIT, waited), LONGEST_WAIT)
        ledger.postpone(owed, now + wait, why)
        log.warning(
            "an answer on storage commitment was not delivered; it is tried again",
            peer=owed.peer_ae_title,
            why=why,
            wait_s=wait.total_seconds(),
        )
        return False

    def _report(self, owed: Owed) -> CommitmentReport:
        """What we can promise: only what is in the ledger, and on the disk."""
        kept = self._ledger.commitments_owed.kept([r.sop_instance_uid for r in owed.references])
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
    """Answers go out over associations of our own, under the listener's AE title and with its TLS files."""

    def send(peer: Peer, report: CommitmentReport) -> None:
        # imported when first needed: most sites are never asked
        from foundation.dicom_client.association import PeerAddress, TlsFiles
        from foundation.dicom_client.commitment import send_report

        files = settings.listener.tls
        tls = None if files is None else TlsFiles(files.certificate, files.key, files.authority)
        send_report(PeerAddress(peer.host, peer.port or 0, peer.ae_title, settings.listener.ae_title, SEND_TIMEOUT_S, tls), report)

    return send
