"""Inbox of storage commitment messages: durable files from the listener, until the daemon has recorded them in the ledger.

The listener answers 0x0000 only once such a file survives a power loss. It therefore needs no database and works while the database
is away.
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
    """A peer answered one of our requests."""

    peer_ae_title: str
    peer_host: str
    report: CommitmentReport
    at: datetime


CommitmentMessage = CommitmentRequestMessage | CommitmentReportMessage


class CommitmentInbox:
    """One folder. Written by the listener's processes, emptied by the daemon."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, message: CommitmentMessage) -> None:
        """Store a message. The same message again is the same file.

        Raises
        ------
        OSError
            The disk is full or the folder cannot be written.
        """
        make_folders(self._folder)
        if isinstance(message, CommitmentRequestMessage):
            kind, transaction = _REQUEST, message.transaction_uid
            body: dict[str, Any] = {"references": [_pair(r) for r in message.references]}
        else:
            kind, transaction = _REPORT, message.report.transaction_uid
            body = {
                "committed": [_pair(r) for r in message.report.committed],
                "failed": [[*_pair(f.reference), f.reason] for f in message.report.failed],
            }
        record = {
            "kind": kind,
            "peer_ae_title": message.peer_ae_title,
            "peer_host": message.peer_host,
            "transaction_uid": transaction,
            "at": message.at.isoformat(),
        }
        # a UID from outside never becomes a path
        name = hashlib.sha256(f"{kind}\n{message.peer_ae_title}\n{transaction}".encode()).hexdigest()[:32]
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
