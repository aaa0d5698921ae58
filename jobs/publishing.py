"""Publisher: sends committed work to the broker."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from corewatch.errors import RetryLater
from corewatch.messages import Work
from jobs.names import QUEUE_OF, task_name


class Publisher:
    """Sends messages; returns only after the broker has accepted them.

    Parameters
    ----------
    app
        The application of `jobs.app.make_app`.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __call__(self, work: Work) -> None:
        """Publish one piece of work.

        Raises
        ------
        RetryLater
            The broker cannot be reached or did not take it.
        """
        try:
            self._app.send_task(
                task_name(work.stage),
                kwargs=work.kwargs,
                queue=QUEUE_OF[work.stage],
                retry=False,
                # what Flower and the log show; the arguments are free of patient data
                argsrepr="()",
                kwargsrepr=repr(work.kwargs),
            )
        except (OperationalError, OSError) as error:
            raise RetryLater("the broker cannot be reached", "check broker.url and that Redis runs") from error
