"""Time limits of the stages: what the queue, the workers and the leases of the ledger must agree on."""

from __future__ import annotations

from dataclasses import dataclass

from corewatch.states import Stage

HARD_LIMIT_MARGIN_S = 15.0
"""A task that does not heed its soft limit is killed so much later."""

VISIBILITY_MARGIN_S = 120.0
"""Redis gives an unacknowledged message to another worker so long after the longest hard limit: the first one is dead by then."""


@dataclass(frozen=True, slots=True)
class StageLimits:
    """Soft time limits of the stages in seconds."""

    prepare_s: float = 180.0
    detect_s: float = 180.0
    deliver_s: float = 180.0

    def soft_s(self, stage: Stage) -> float:
        """Soft limit of a stage; rendering counts as delivery."""
        return {Stage.PREPARE: self.prepare_s, Stage.DETECT: self.detect_s}.get(stage, self.deliver_s)

    def hard_s(self, stage: Stage) -> float:
        """Hard limit of a stage: its process is killed then."""
        return self.soft_s(stage) + HARD_LIMIT_MARGIN_S

    @property
    def visibility_timeout_s(self) -> float:
        """Above every hard limit, so that a message is never worked on twice at the same time."""
        return max(self.hard_s(s) for s in Stage) + VISIBILITY_MARGIN_S
