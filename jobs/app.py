"""The Celery application of the daemon, the workers and Flower."""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from corewatch.stage_limits import StageLimits
from corewatch.states import Stage
from jobs.names import QUEUE_OF, QUEUES, task_name


def make_app(broker_url: str, limits: StageLimits | None = None) -> Celery:
    """Build the application.

    Parameters
    ----------
    broker_url
        `redis://:password@host:port/0`.
    limits
        Soft time limits of the stages.
    """
    limits = limits or StageLimits()
    app = Celery("corewatch", broker=broker_url, set_as_current=False)
    app.conf.update(
        # JSON only: a message must not be able to carry code
        task_serializer="json",
        accept_content=["json"],
        # the ledger is the truth: no result backend
        task_ignore_result=True,
        result_backend=None,
        # the broker redelivers a message whose worker dies; a worker reserves one message at a time
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        # a running task outlives a broken connection: its result is recorded in the ledger, and the message that is redelivered
        # after the visibility timeout finds the case moved on
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": limits.visibility_timeout_s,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 15,
        },
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=QUEUES[0],
        task_create_missing_queues=False,
        task_routes={task_name(stage): {"queue": queue} for stage, queue in QUEUE_OF.items()},
        task_annotations={
            task_name(stage): {"soft_time_limit": limits.soft_s(stage), "time_limit": limits.hard_s(stage)} for stage in Stage
        },
        # Flower lives on events
        worker_send_task_events=True,
        task_send_sent_event=True,
        task_track_started=True,
        # the programs set up logging themselves
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # loading TensorFlow takes longer than Celery's 4 s
        worker_proc_alive_timeout=180.0,
        enable_utc=True,
        timezone="UTC",
    )
    return app
