"""What the listener hears of storage commitment, as durable files, until the daemon has it in the ledger.

The listener answers 0x0000 only when such a file survives a power loss; so it needs no database, and goes on when there is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from corewatch.storage_commitment import CommitmentFailure, CommitmentReport, InstanceReference
from foundation.durable import create_durably, make_folders

_SUFFIX = ".json"
_REQUEST, _REPORT = "request", "report"


@dataclass(frozen=True, slots=True)
class CommitmentRequestMessage:
    """A peer asked us for storage commitment."""

    peer_ae_title: str
    peer_host: str
    transaction_uid: str
    references: tuple[InstanceReference, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class CommitmentReportMessage:
    """A peer answered our request."""

    peer_ae_title: str
    peer_host: str
    report: CommitmentReport
    at: datetime


CommitmentMessage = CommitmentRequestMessage | CommitmentReportMessage


class CommitmentInbox:
    """One folder. Written by the listener's processes, emptied by the daemon."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, heard: CommitmentMessage) -> None:
        """Keep it. The same again is the same file.

        Raises
        ------
        OSError
            The disk is full or the folder cannot be written.
        """
        make_folders(self._folder)
        if isinstance(heard, CommitmentRequestMessage):
            kind, transaction = _REQUEST, heard.transaction_uid
            body: dict[str, Any] = {"references": [_pair(r) for r in heard.references]}
        else:
            kind, transaction = _REPORT, heard.report.transaction_uid
            body = {
                "committed": [_pair(r) for r in heard.report.committed],
                "failed": [[*_pair(f.reference), f.reason] for f in heard.report.failed],
            }
        record = {
            "kind": kind,
            "peer_ae_title": heard.peer_ae_title,
            "peer_host": heard.peer_host,
            "transaction_uid": transaction,
            "at": heard.at.isoformat(),
        }
        # no UID of a stranger becomes a path
        name = hashlib.sha256(f"{kind}\n{heard.peer_ae_title}\n{transaction}".encode()).hexdigest()[:32]
        create_durably(self._folder / f"{name}{_SUFFIX}", [json.dumps(record | body).encode()])

    def messages(self) -> Iterator[tuple[Path, CommitmentMessage | None]]:
        """What is there, in no particular order; None for a file that cannot be read."""
        if not self._folder.is_dir():
            return
        for path in sorted(p for p in self._folder.iterdir() if p.suffix == _SUFFIX):
            try:
                yield path, _read(json.loads(path.read_bytes()))
            except (ValueError, KeyError, TypeError):
                yield path, None


def _read(record: dict[str, Any]) -> CommitmentMessage:
    peer = (record["peer_ae_title"], record["peer_host"])
    at = datetime.fromisoformat(record["at"])
    if record["kind"] == _REQUEST:
        return CommitmentRequestMessage(
            *peer, record["transaction_uid"], tuple(InstanceReference(*pair) for pair in record["references"]), at
        )
    committed = tuple(InstanceReference(*pair) for pair in record["committed"])
    failed = tuple(CommitmentFailure(InstanceReference(*pair), reason) for *pair, reason in record["failed"])
    return CommitmentReportMessage(*peer, CommitmentReport(record["transaction_uid"], committed, failed), at)


def _pair(reference: InstanceReference) -> list[str]:
    return [reference.sop_class_uid, reference.sop_instance_uid]
