"""The worker program: a Celery worker for one or more queues."""

from __future__ import annotations

import os
from collections.abc import Sequence

import structlog
from celery import signals
from celery.concurrency import prefork

from config.logging import configure_logging
from config.settings import Settings
from corewatch.errors import ConfigurationError
from corewatch.states import STAGE_OF, Stage
from jobs.app import make_app
from jobs.names import QUEUE_OF, QUEUES
from ledger.store import Ledger
from outputs.mail.operator_notice import OneNoticePerOutage, no_model_notice, send_notice
from worker.child_process import ChildContext
from worker.context import WorkerContext, holder_is_gone
from worker.liveness import install_liveness
from worker.models.readiness import ModelKeeper, ModelStatus, Readiness, install_queue_gate
from worker.tasks import register

log = structlog.get_logger()

DETECT = QUEUE_OF[Stage.DETECT]


def serve(settings: Settings, broker_url: str, queues: Sequence[str]) -> None:
    """Run a worker until it is asked to stop (SIGTERM: finish what is running, then end).

    The parent process never imports TensorFlow: each child loads it after the fork and loads its model before its first task, so a
    child that is killed at its hard time limit takes nothing with it. Without its model it takes no work from `detect` (see
    `worker.models.readiness`).

    Parameters
    ----------
    broker_url
        `redis://...`
    queues
        Some of `jobs.names.QUEUES`.

    Raises
    ------
    ConfigurationError
        A queue has no such name.
    """
    unknown = sorted(set(queues) - set(QUEUES))
    if unknown or not queues:
        raise ConfigurationError(f"no such queue: {', '.join(unknown) or '(none)'}", f"there are {', '.join(QUEUES)}")
    _release_orphaned_claims(settings, queues)
    app = make_app(broker_url, settings.work.limits)
    install_liveness(app)
    status = ModelStatus()
    if DETECT in queues:
        install_queue_gate(
            app, status, DETECT, OneNoticePerOutage(lambda problem: send_notice(settings.deliver.email, no_model_notice(problem)))
        )

    def open_context() -> WorkerContext:
        configure_logging(settings.log, f"worker-{'-'.join(queues)}")
        return WorkerContext.open(settings)

    def load_model(context: WorkerContext) -> None:
        if DETECT in queues:
            context.keeper = ModelKeeper(status, context.detectors.warm_up)
            context.keeper.load()

    def note_problem(why: str) -> None:
        # closes the queue and alarms the operators: the status of the child before this one is still there
        status.write(Readiness.MISSING if why else Readiness.LOADING, f"its ledger and destinations cannot be opened: {why}")

    context = ChildContext(open_context, load_model, on_problem=note_problem)
    register(app, context)
    app.conf.worker_pool = f"{TaskPool.__module__}:{TaskPool.__qualname__}"
    signals.worker_process_init.connect(context.start, weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # logging is set up already
    app.worker_main(
        [
            "--quiet",  # no banner: it would not be a line of the log
            "worker",
            f"--queues={','.join(queues)}",
            f"--concurrency={_processes(settings, queues)}",
            f"--hostname={'-'.join(queues)}.{os.getpid()}@%h",
            "--pool=prefork",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=WARNING",
        ]
    )


def _processes(settings: Settings, queues: Sequence[str]) -> int:
    """Number of processes: one for the detect queue, since one model uses the device."""
    wanted = {"prepare": settings.work.prepare_processes, "detect": 1, "deliver": settings.work.deliver_processes}
    return 1 if DETECT in queues else max(wanted[q] for q in queues)


def _release_orphaned_claims(settings: Settings, queues: Sequence[str]) -> None:
    """Release the claims of workers of these queues on this host that were killed, instead of waiting for their leases.

    Other queues are left alone: under systemd each unit sees its own processes only, and another's would look as if they had ended.
    """
    ledger = Ledger(settings.database_url, lease_s=settings.work.lease_s)
    try:
        for case in ledger.cases.held():
            ours = case.state in STAGE_OF and QUEUE_OF[STAGE_OF[case.state]] in queues
            if ours and case.holder is not None and holder_is_gone(case.holder):
                why = "its worker ended"
                ledger.cases.release(case.case_id, case.state, holder=case.holder, why=why, not_before=ledger.clock())
                log.warning("orphaned_claim_released", case=case.case_id)
        if QUEUE_OF[Stage.DELIVER] not in queues:
            return
        for held in ledger.deliveries.held():
            if held.holder is not None and holder_is_gone(held.holder):
                now = ledger.clock()
                ledger.deliveries.release(held.case_id, held.destination, why="its worker ended", not_before=now, counts=True)
                log.warning("orphaned_claim_released", case=held.case_id, destination=held.destination)
    finally:
        ledger.close()


class TaskPool(prefork.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's pool, but a process that ends before the worker has connected to the broker is replaced, as one that ends later is.

    It ends where the model does not fit into the memory, or half a minute after a model could not be loaded; the broker may be
    away for longer. Celery would end the worker with "Could not start worker processes" and say nothing of the model.
    """

    def did_start_ok(self) -> bool:
        """Whether the worker may start: always."""
        return True
