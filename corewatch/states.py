"""State machines of a case and of a delivery, each as one table of allowed transitions.

case:      receiving -> queued -> prepared -> detected -> delivering -> delivered
ends:      not_analysed, failed, superseded (besides delivered)
back:      prepared|detected|delivering -> the state before the stage that makes its damaged files again
delivery:  pending -> sending -> sent;  pending|sending -> refused (an operator must look), skipped (does not apply)
           sending -> awaiting -> pending: stored, commitment requested; the answer makes the delivery due again
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from corewatch.errors import IllegalTransition


class CaseState(StrEnum):
    """State of a case."""

    RECEIVING = "receiving"
    """Instances are still arriving."""
    QUEUED = "queued"
    """Complete and selected; waits for, or is in, the `prepare` stage."""
    PREPARED = "prepared"
    """The aligned head is in the case folder; waits for, or is in, `detect`."""
    DETECTED = "detected"
    """Finding and core map are in the case folder; waits for, or is in, `render`."""
    DELIVERING = "delivering"
    """Pages and DICOM objects are in the case folder; the deliveries are in progress."""
    DELIVERED = "delivered"
    """Every delivery is sent or skipped."""
    NOT_ANALYSED = "not_analysed"
    FAILED = "failed"
    """An operator must act: `corewatch cases retry` starts the failed stage again."""
    SUPERSEDED = "superseded"
    """A later revision of the same series replaces it."""


_S = CaseState
TRANSITIONS: dict[CaseState, frozenset[CaseState]] = {
    _S.RECEIVING: frozenset({_S.QUEUED, _S.NOT_ANALYSED, _S.FAILED, _S.SUPERSEDED}),
    _S.QUEUED: frozenset({_S.PREPARED, _S.NOT_ANALYSED, _S.FAILED, _S.SUPERSEDED}),
    # back to the stage that makes the files again, where what a stage has left is damaged or gone
    _S.PREPARED: frozenset({_S.DETECTED, _S.NOT_ANALYSED, _S.FAILED, _S.SUPERSEDED, _S.QUEUED}),
    _S.DETECTED: frozenset({_S.DELIVERING, _S.NOT_ANALYSED, _S.FAILED, _S.SUPERSEDED, _S.QUEUED, _S.PREPARED}),
    _S.DELIVERING: frozenset({_S.DELIVERED, _S.FAILED, _S.SUPERSEDED, _S.QUEUED, _S.PREPARED, _S.DETECTED}),
    # an escalation mail that is refused afterwards needs an operator
    _S.DELIVERED: frozenset({_S.FAILED, _S.SUPERSEDED}),
    # `cases retry` puts a case back before the stage that ended it
    _S.NOT_ANALYSED: frozenset({_S.QUEUED, _S.PREPARED, _S.DETECTED, _S.SUPERSEDED}),
    _S.FAILED: frozenset({_S.QUEUED, _S.PREPARED, _S.DETECTED, _S.DELIVERING, _S.NOT_ANALYSED, _S.SUPERSEDED}),
    _S.SUPERSEDED: frozenset(),
}
"""From each state, the states that may follow."""

ENDS = frozenset({_S.DELIVERED, _S.NOT_ANALYSED, _S.FAILED, _S.SUPERSEDED})
"""States in which nothing more happens by itself."""

WITHOUT_RESULT = frozenset({_S.NOT_ANALYSED, _S.FAILED})
"""Ends of cases whose series is analysed when it is received again."""


class Stage(StrEnum):
    """Stage of the pipeline; also the name of its task."""

    PREPARE = "prepare"
    DETECT = "detect"
    RENDER = "render"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class PipelineStep:
    """One row of `PIPELINE`: a case in `before` is due for `stage`, which runs on `queue` and leaves it in `after`."""

    stage: Stage
    before: CaseState
    after: CaseState
    queue: str


PIPELINE: Final = (
    PipelineStep(Stage.PREPARE, _S.QUEUED, _S.PREPARED, queue="prepare"),  # CPU
    PipelineStep(Stage.DETECT, _S.PREPARED, _S.DETECTED, queue="detect"),  # one process per GPU
    PipelineStep(Stage.RENDER, _S.DETECTED, _S.DELIVERING, queue="deliver"),  # CPU, light
    PipelineStep(Stage.DELIVER, _S.DELIVERING, _S.DELIVERED, queue="deliver"),  # waits for the network
)
"""The stages in order; `worker.stages.bodies` has the code of each.

A queue name that has been used stays: messages of an older version may still be in the broker.
"""

STAGE_OF: Final[dict[CaseState, Stage]] = {step.before: step.stage for step in PIPELINE}
"""The stage that takes a case out of this state."""


class DeliveryState(StrEnum):
    """State of the delivery to one destination."""

    PENDING = "pending"
    SENDING = "sending"
    AWAITING = "awaiting"
    """The PACS has stored the objects, and storage commitment is requested; its answer may take hours."""
    SENT = "sent"
    REFUSED = "refused"
    """Attempts are used up, or the destination refused for good: an operator must act."""
    SKIPPED = "skipped"
    """The destination does not apply to this case, with the reason (for example no DICOM source, so nothing for a PACS)."""


_D = DeliveryState
DELIVERY_TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    _D.PENDING: frozenset({_D.SENDING, _D.SKIPPED, _D.PENDING}),
    _D.SENDING: frozenset({_D.SENT, _D.AWAITING, _D.PENDING, _D.REFUSED, _D.SKIPPED, _D.SENDING}),
    _D.AWAITING: frozenset({_D.PENDING}),
    _D.SENT: frozenset(),
    _D.REFUSED: frozenset({_D.PENDING, _D.SKIPPED}),
    _D.SKIPPED: frozenset(),
}
"""From each state, the states it may go to.

PENDING -> PENDING: its message was lost and is posted again, or the case is planned again.
SENDING -> SENDING: the worker died while sending and another one took over.
REFUSED -> PENDING, SKIPPED: an operator retried the case, and it is planned again.
"""

DELIVERY_STARTS = frozenset({_D.PENDING, _D.SKIPPED})
"""States in which a delivery is planned."""

DELIVERY_ENDS = frozenset({_D.SENT, _D.REFUSED, _D.SKIPPED})


def check_transition(before: CaseState, after: CaseState) -> None:
    """Raise `IllegalTransition` unless the table allows `before` -> `after`."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(f"a case cannot go from {before} to {after}")


def check_delivery_transition(before: DeliveryState, after: DeliveryState) -> None:
    """Raise `IllegalTransition` unless the table allows `before` -> `after`."""
    if after not in DELIVERY_TRANSITIONS[before]:
        raise IllegalTransition(f"a delivery cannot go from {before} to {after}")


def check_delivery_start(state: DeliveryState) -> None:
    """Raise `IllegalTransition` unless a delivery may be planned in this state."""
    if state not in DELIVERY_STARTS:
        raise IllegalTransition(f"a delivery cannot start as {state}")
