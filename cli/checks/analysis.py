"""Checks of the analysis: installed models, the compute device, running detect workers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from cli.checks.report import Check
from config.settings import Settings
from corewatch.errors import ConfigurationError
from corewatch.states import Stage

_LIMIT_S = 5.0


def model(settings: Settings) -> Iterator[Check]:
    """Every model of the settings is installed and its weights are unchanged; TensorFlow is not loaded for this."""
    from worker.models.registry import verify_model

    for name in settings.model_names:
        subject = "model" if name == settings.model.name else "model of a rule"
        try:
            manifest = verify_model(name, settings.models_dir)
        except ConfigurationError as error:
            yield Check.of_error(subject, error, "see `corewatch model list` and `corewatch model install`")
            continue
        known = f"{manifest.name} {manifest.version}, SHA-256 {manifest.sha256[:12]}"
        if manifest.identity.demonstration:
            yield Check.warning(
                subject,
                f"{known}: trained on synthetic heads only",
                "install a model with `corewatch model install`, and set model.name",
            )
        else:
            yield Check.ok(subject, f"{known}; {manifest.intended_use}")


def device(settings: Settings) -> Iterator[Check]:
    """TensorFlow is installed and loads a model on the device of the settings."""
    from cli.children import own_environment
    from worker.models.device_probe import probe

    subject, wanted, environment = "device", settings.model.device, own_environment({})
    if importlib.util.find_spec("tensorflow") is None:
        yield Check.error(subject, "TensorFlow is not installed", "pip install 'corewatch[cpu]' or 'corewatch[cuda]'")
        return
    problem = ("the driver shows no GPU" if wanted == "gpu" and not gpus() else None) or probe(wanted, environment)
    if problem is None:
        yield Check.ok(subject, f"{gpus()} GPU" if wanted == "gpu" else "computes on the processor")
        return
    if wanted == "cpu":
        yield Check.error(subject, problem, "check that TensorFlow supports this processor; reinstall corewatch[cpu]")
        return
    remedy = "install the NVIDIA driver and corewatch[cuda], pass the GPU to the container, or set model.device: cpu"
    if settings.model.cpu_fallback and probe("cpu", environment) is None:
        yield Check.warning(subject, f"{problem}: computes on the processor, which is slower (model.cpu_fallback)", remedy)
    else:
        yield Check.error(subject, problem, remedy)


def gpus() -> int:
    """Number of GPUs that the driver shows; TensorFlow is not asked, because it would stay in this process."""
    import ctypes

    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def workers(settings: Settings) -> Iterator[Check]:
    """Every queue has a worker that takes its tasks, and each worker of the detect queue has its model."""
    from cli.data_folder import broker_url
    from cli.program_health import worker_queues
    from foundation.lock import DAEMON_LOCK, is_locked
    from jobs.app import make_app
    from jobs.embedded import answers
    from jobs.names import QUEUE_OF, QUEUES

    try:
        url = broker_url(settings)
    except ConfigurationError:  # no private Redis runs, so no worker does
        return
    if not answers(url, _LIMIT_S):  # the check of the broker reports it
        return
    with make_app(url) as app:
        queues = worker_queues(app)
    detect = QUEUE_OF[Stage.DETECT]
    for worker, consumed in sorted(queues.items()):
        if detect not in worker.split(".")[0].split("-"):
            continue
        if detect in consumed:
            yield Check.ok("detect worker", f"{worker} has its model and takes tasks")
        else:
            yield Check.error("detect worker", f"{worker} has no model and takes no work, or is still loading it", "see its log")
    without = [queue for queue in QUEUES if not any(queue in consumed for consumed in queues.values())]
    lock = settings.data_dir / DAEMON_LOCK
    daemon_runs = lock.exists() and is_locked(lock)
    for queue in without:
        found = f"no worker takes tasks from the queue {queue}, or it hangs"
        remedy = f"start `corewatch work --queues {queue}`, or look at its log; `corewatch up` restarts one that hangs"
        # a worker may run on another host; without a daemon nothing may be started yet
        yield (Check.error if daemon_runs else Check.warning)("queue " + queue, found, remedy)
    if not without:
        yield Check.ok("queues", f"{', '.join(QUEUES)}: each has a worker that answers")
