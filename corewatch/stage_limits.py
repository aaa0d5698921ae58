"""Time limits of the stages, shared by the queue, the workers and the leases of the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from corewatch.states import Stage

HARD_LIMIT_MARGIN_S = 15.0
"""Seconds after the soft limit at which a task is killed."""

VISIBILITY_MARGIN_S = 120.0
"""Seconds after the longest hard limit at which Redis redelivers an unacknowledged message: its first worker is dead by then."""


@dataclass(frozen=True, slots=True)
class StageLimits:
    """Soft time limits of the stages, in seconds."""

    prepare_s: float = 180.0
    detect_s: float = 180.0
    deliver_s: float = 180.0

    def soft_s(self, stage: Stage) -> float:
        """Soft limit of a stage; rendering counts as delivery."""
        return {Stage.PREPARE: self.prepare_s, Stage.DETECT: self.detect_s}.get(stage, self.deliver_s)

    def hard_s(self, stage: Stage) -> float:
        """Hard limit of a stage, at which its process is killed."""
        return self.soft_s(stage) + HARD_LIMIT_MARGIN_S

    @property
    def visibility_timeout_s(self) -> float:
        """Visibility timeout of the broker in seconds: above every hard limit, so that no message has two workers at a time."""
        return max(self.hard_s(s) for s in Stage) + VISIBILITY_MARGIN_S
