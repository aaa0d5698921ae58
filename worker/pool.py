"""The processes of a worker: Celery's pool, which does not give the whole worker up for one that ends early."""

from __future__ import annotations

from celery.concurrency import prefork


class TaskPool(prefork.TaskPool):  # type: ignore[misc]  # Celery has no types
    """A process that ends before the worker has its broker is replaced, as one that ends later is.

    It ends where the model does not fit into the memory, or half a minute after a model could not be loaded; the broker may be
    away for longer. Celery would end the worker with "Could not start worker processes" and say nothing of the model.
    """

    def did_start_ok(self) -> bool:
        """Whether the worker may begin: always."""
        return True
