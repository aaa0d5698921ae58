"""Storage commitment (PS3.4 Annex J): requests, reports, and the next step of a delivery that needs one.

A PACS that has stored an object takes responsibility for it only with a commitment. A delivery that requests commitment is `sent`
when every object is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

MAXIMUM_ROUNDS = 3
"""Answered requests after which objects that the PACS still does not commit are left to an operator."""

NO_SUCH_OBJECT = 0x0112
"""Failure Reason of an instance that the PACS does not have: no such object instance (PS3.3 C.14.1.1)."""

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
"""Failure Reason (0008,1197) -> description, and whether sending the instance again may help (PS3.3 C.14.1.1)."""


@dataclass(frozen=True, slots=True)
class InstanceReference:
    """SOP class and instance UID of one object in a request or report."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentFailure:
    """An object that the PACS does not commit, and its Failure Reason (0008,1197)."""

    reference: InstanceReference
    reason: int


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """Answer to one transaction, from its N-EVENT-REPORT."""

    transaction_uid: str
    committed: tuple[InstanceReference, ...] = ()
    failed: tuple[CommitmentFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One N-ACTION request that we sent.

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
    """Send the objects that are not committed yet, and request commitment for them."""

    leave_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Committed:
    """The PACS has committed every object."""

    count: int


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """The PACS does not commit every object; an operator must act."""

    why: str


def next_commitment_step(requests: Sequence[CommitmentRequest], now: datetime) -> SendAndRequest | Committed | NotCommitted:
    """Next step of a delivery that requests commitment.

    Parameters
    ----------
    requests
        Its requests so far, oldest first. The first one names every object of the delivery.
    now
        The present moment.
    """
    if not requests:
        return SendAndRequest()
    committed = frozenset[str]().union(*(a.committed & set(a.instances) for a in requests if a.committed is not None))
    missing = [uid for uid in requests[0].instances if uid not in committed]
    last = requests[-1]
    if not missing:
        return Committed(len(requests[0].instances))
    if last.committed is None:
        if now < last.deadline:
            return SendAndRequest(committed)  # the request did not get through, or its worker died
        return NotCommitted(
            f"it stored {len(requests[0].instances)} objects and did not say in time whether it keeps {len(missing)} of them; "
            "see that it knows our AE title, host and port for storage commitment results, and that listener.peers names it"
        )
    # an object that the report does not name counts as missing
    reasons = dict.fromkeys(missing, NO_SUCH_OBJECT) | {uid: reason for uid, reason in last.failed if uid in missing}
    worst = next((r for r in reasons.values() if not _may_help(r)), next(iter(reasons.values())))
    words = f"it does not keep {len(missing)} of {len(requests[0].instances)} objects: {describe_failure(worst)}"
    if not _may_help(worst):
        return NotCommitted(f"{words}; look at its log and its rules for these objects")
    rounds = sum(a.committed is not None for a in requests)
    if rounds >= MAXIMUM_ROUNDS:
        return NotCommitted(f"{words}, after they were sent {rounds} times; look at its log and its disk")
    return SendAndRequest(committed)


def describe_failure(reason: int) -> str:
    """Description of a Failure Reason, with its code."""
    words, _ = FAILURE_REASONS.get(reason, ("unknown reason", False))
    return f"{words} (0x{reason:04X})"


def _may_help(reason: int) -> bool:
    return FAILURE_REASONS.get(reason, ("", False))[1]
