"""A site that has nothing to do but detect: private Redis, ledger, prepared cases, and the real worker program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from cli.children import own_environment
from config import load_settings
from conversion.nifti import write_aligned
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.casefolder import CaseFolder
from corewatch.findings import Finding
from corewatch.geometry import NETWORK_SHAPE
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.states import CaseState, Stage
from corewatch.volumes import AlignedHead
from daemon.upkeep.dispatcher import Dispatcher
from daemon.upkeep.overdue import Reconciler
from jobs.app import make_app
from jobs.embedded import EmbeddedRedis
from jobs.publishing import Publisher
from ledger.intake import IndexedFile
from ledger.store import Ledger
from tests.support.detect_worker import DAWDLES_UNTIL, QUICK
from tests.support.net import wait_for
from worker.models import install_model
from worker.models.manifest import ModelManifest
from worker.stages.case_files import FindingRecord, PreparedRecord

MODEL = "quick"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"


class DetectSite:
    """Everything of a site but the daemon's loop: `dispatch` and `reconcile` are its steps."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.file = folder / "corewatch.yaml"
        model = {"name": MODEL, "spread": False}
        self.file.write_text(yaml.safe_dump({"data_dir": str(folder / "data"), "model": model} | settings))
        self.settings = load_settings(self.file, {})
        self.redis = EmbeddedRedis(folder / "redis")
        self.url = self.redis.start()
        self._ahead = timedelta()
        self.ledger = Ledger(self.settings.database_url, self._now)
        self.app = make_app(self.url, self.settings.work.limits)
        self._dispatcher = Dispatcher(self.ledger.outbox, self._publish)
        self.log = folder / "worker.log"
        self.go_on = folder / "go-on"
        """A head that dawdles is at work until this file is there."""
        self._arrivals = 0

    def close(self) -> None:
        self.ledger.close()
        self.app.close()
        self.redis.stop()

    def install(self, name: str = MODEL, *, adapter: str = "quick", gain: float = 1.0) -> ModelManifest:
        given = self.folder / "given"
        given.write_text(f'{{"gain": {gain}}}')
        return install_model(given, self.settings.models_dir, name, version="1", adapter=adapter, adapters=QUICK)

    def prepared(self, count: int = 1, *, first_voxel: int = 0, model: str | None = None) -> list[str]:
        """Make this many cases in `prepared`, with their folders, and their messages in the outbox."""
        self._arrivals += 1
        now = datetime.now(UTC)
        arrival = Arrival(f"a{self._arrivals}", ArrivalSource.C_STORE, now)
        self.ledger.intake.register(arrival)
        uids = [f"1.2.{self._arrivals}.{n + 1}" for n in range(count)]
        headers = [Instance(f"{uid}.1", _CT, _EXPLICIT, uid, "1.2") for uid in uids]
        files = [
            IndexedFile(f"{arrival.arrival_id}/{n}.dcm", header.sop_instance_uid, now, header) for n, header in enumerate(headers)
        ]
        opened = self.ledger.intake.ingest(arrival, files).opened
        given = self.folder / f"aligned-{self._arrivals}.nii.gz"
        write_aligned(given, AlignedHead(_head(first_voxel), None, None))
        for case_id in opened:
            self.ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, case_key=case_id, model=model)
            folder = CaseFolder(self.settings.cases_dir / case_id)
            folder.path.mkdir(parents=True)
            shutil.copyfile(given, folder.aligned)
            PreparedRecord(None, (), None, None, None, 0.1, None).write(folder)
            self.ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED, work=[Work(Stage.DETECT, case_id)])
        return list(opened)

    def _publish(self, work: Work) -> None:
        if work.stage is Stage.DETECT:  # nobody renders here
            Publisher(self.app)(work)

    def dispatch(self) -> int:
        """Hand to the broker what is due."""
        return self._dispatcher.step(self._now())

    def reconcile(self, ahead_s: float) -> int:
        """What the daemon does after this many seconds: publish again what has outlived its lease."""
        self._ahead += timedelta(seconds=ahead_s)
        return Reconciler(self.ledger).step(self._now())

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def states(self) -> dict[str, CaseState]:
        return {case.case_id: case.state for case in self.ledger.cases.find()}

    def found(self, case_id: str) -> Finding:
        """What was found in a case."""
        found = FindingRecord.read(CaseFolder(self.settings.cases_dir / case_id))
        assert found is not None
        return found.finding

    def waiting_messages(self) -> int:
        with self.app.connection_for_read() as connection:
            count: int = connection.default_channel.queue_declare("detect", passive=False).message_count
        return count

    def consumed(self) -> set[str]:
        """Queues that a worker takes messages from."""
        replies = self.app.control.inspect(timeout=1.0).active_queues() or {}
        return {queue["name"] for queues in replies.values() for queue in queues}

    @contextmanager
    def worker(self) -> Iterator[psutil.Process]:
        """The worker program; stopped with SIGTERM as systemd does."""
        environment = own_environment({"PYTHONUNBUFFERED": "1", DAWDLES_UNTIL: str(self.go_on)})
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.support.detect_worker", str(self.file), self.url],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            yield psutil.Process(started.pid)
        finally:
            started.terminate()
            try:
                started.wait(60)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def wait(self, what: str, look: Callable[[], Any], seconds: float = 120.0) -> Any:
        """`wait_for`, with the worker's log when it is in vain."""
        try:
            return wait_for(what, look, seconds, every=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.states()}\n{self.tail()}") from None


def computing_child(parent: psutil.Process) -> psutil.Process | None:
    """The worker's child that has TensorFlow loaded; None while there is none."""
    for child in parent.children(recursive=True):
        if has_tensorflow(child):
            return child
    return None


def has_tensorflow(process: psutil.Process) -> bool:
    """Whether TensorFlow's library is mapped into the process."""
    try:
        return "libtensorflow" in Path(f"/proc/{process.pid}/maps").read_text()
    except (OSError, psutil.Error):
        return False


def _head(first_voxel: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    hu = np.zeros(NETWORK_SHAPE, np.uint8)
    hu[10:136, 15:170, 10:120] = 40
    hu[90:130, 60:100, 40:80] = 25
    hu[0, 0, 0] = first_voxel
    return hu
