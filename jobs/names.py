"""Names of tasks and queues. A name that is once in use stays: messages of an older version may still be on their way."""

from __future__ import annotations

from typing import Final

from corewatch.states import Stage

QUEUE_OF: Final[dict[Stage, str]] = {
    Stage.PREPARE: "prepare",  # CPU
    Stage.DETECT: "detect",  # one process per GPU
    Stage.RENDER: "deliver",  # CPU, light
    Stage.DELIVER: "deliver",  # waits for the network
}
"""The queue that carries the work of each stage."""

QUEUES: Final = ("prepare", "detect", "deliver")


def task_name(stage: Stage) -> str:
    """Name of the Celery task of a stage."""
    return f"corewatch.{stage}"
