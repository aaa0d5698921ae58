"""Names of Celery tasks and queues, from the table of the stages (`corewatch.states.PIPELINE`).

A name that has been used stays: messages of an older version may still be in the broker.
"""

from __future__ import annotations

from typing import Final

from corewatch.states import PIPELINE, Stage

QUEUE_OF: Final[dict[Stage, str]] = {step.stage: step.queue for step in PIPELINE}
"""The queue that carries the work of each stage."""

QUEUES: Final = tuple(dict.fromkeys(QUEUE_OF.values()))
"""Every queue once, in the order of the stages."""


def task_name(stage: Stage) -> str:
    """Name of the Celery task of a stage."""
    return f"corewatch.{stage}"
