"""Storage commitment: a PACS confirms that it keeps what it has stored (PS3.4 Annex J). What was asked and answered, what follows.

After an object is stored its sender may still not delete it: only a commitment makes the receiver answerable for it. A delivery to
a PACS that is asked for one is `sent` only when every object is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

MAXIMUM_ROUNDS = 3
"""How often objects that a PACS could not commit are sent and asked for, before an operator must look."""

NO_SUCH_OBJECT = 0x0112
"""The failure reason for an object that is not there (PS3.3 C.14.1.1)."""

FAILURE_REASONS = MappingProxyType(
    {
        0x0110: ("processing failure", True),
        NO_SUCH_OBJECT: ("it does not have the object", True),
        0x0213: ("resource limitation", True),
        0x0122: ("it does not support the SOP class", False),
        0x0119: ("class and instance do not fit", False),
        0x0131: ("the transaction UID was used before", True),
    }
)
"""Failure Reason (0008,1197) -> words, and whether sending the object again may help (PS3.3 C.14.1.1)."""


@dataclass(frozen=True, slots=True)
class InstanceReference:
    """One object that commitment is asked for."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentFailure:
    """An object that is not committed, and the Failure Reason (0008,1197)."""

    reference: InstanceReference
    reason: int


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """The answer to one transaction, as an N-EVENT-REPORT brings it."""

    transaction_uid: str
    committed: tuple[InstanceReference, ...] = ()
    failed: tuple[CommitmentFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One transaction of ours.

    Attributes
    ----------
    committed
        SOP Instance UIDs; None while the PACS has not answered.
    failed
        SOP Instance UID -> Failure Reason.
    """

    transaction_uid: str
    instances: tuple[str, ...]
    deadline: datetime
    committed: frozenset[str] | None = None
    failed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SendAndRequest:
    """Send the objects, except those that are committed already, and ask for them."""

    leave_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Committed:
    """The PACS keeps them all."""

    count: int


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """An operator must look."""

    why: str


def next_commitment_step(asked: Sequence[CommitmentRequest], now: datetime) -> SendAndRequest | Committed | NotCommitted:
    """What to do next for a delivery whose objects are to be committed.

    Parameters
    ----------
    asked
        Its transactions so far, oldest first. The first one named every object of the delivery.
    now
        The present moment.
    """
    if not asked:
        return SendAndRequest()
    committed = frozenset[str]().union(*(a.committed & set(a.instances) for a in asked if a.committed is not None))
    missing = [uid for uid in asked[0].instances if uid not in committed]
    last = asked[-1]
    if not missing:
        return Committed(len(asked[0].instances))
    if last.committed is None:
        if now < last.deadline:
            return SendAndRequest(committed)  # the request did not get through, or its worker died
        return NotCommitted(
            f"it stored {len(asked[0].instances)} objects and did not say in time whether it keeps {len(missing)} of them; "
            "see that it knows our AE title, host and port for storage commitment results, and that listener.peers names it"
        )
    # an object that the report does not name counts as one that is not there
    reasons = dict.fromkeys(missing, NO_SUCH_OBJECT) | {uid: reason for uid, reason in last.failed if uid in missing}
    worst = next((r for r in reasons.values() if not _may_help(r)), next(iter(reasons.values())))
    words = f"it does not keep {len(missing)} of {len(asked[0].instances)} objects: {describe_failure(worst)}"
    if not _may_help(worst):
        return NotCommitted(f"{words}; look at its log and its rules for these objects")
    rounds = sum(a.committed is not None for a in asked)
    if rounds >= MAXIMUM_ROUNDS:
        return NotCommitted(f"{words}, after they were sent {rounds} times; look at its log and its disk")
    return SendAndRequest(committed)


def describe_failure(reason: int) -> str:
    """A Failure Reason in words, with its number."""
    words, _ = FAILURE_REASONS.get(reason, ("unknown reason", False))
    return f"{words} (0x{reason:04X})"


def _may_help(reason: int) -> bool:
    return FAILURE_REASONS.get(reason, ("", False))[1]
