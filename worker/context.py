"""What one worker process holds: settings, ledger, destinations, and, for the detect queue, a loaded model."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from config.settings import Settings
from corewatch.casefolder import CaseFolder
from ledger.cases import Case
from ledger.store import Ledger
from outputs.case import ReportedCase
from outputs.destinations.base import Destination
from worker.delivery.destinations import destinations_of
from worker.delivery.reporting import reported_case
from worker.models.detectors import Detectors
from worker.models.readiness import ModelKeeper


@dataclass(slots=True)
class WorkerContext:
    """Made once per process, after the fork."""

    settings: Settings
    ledger: Ledger
    detectors: Detectors
    destinations: dict[str, Destination] = field(default_factory=dict)
    keeper: ModelKeeper | None = None
    """Keeps the model of a worker that must have one."""

    @classmethod
    def open(cls, settings: Settings) -> WorkerContext:
        """Connect to the ledger and set up the destinations; models are loaded on demand or by `Detectors.warm_up`."""
        ledger = Ledger(settings.database_url, lease_s=settings.work.lease_s)
        return cls(settings, ledger, Detectors(settings), destinations_of(settings, ledger.letters))

    def folder(self, case_id: str) -> CaseFolder:
        """The folder of a case."""
        return CaseFolder(self.settings.cases_dir / case_id)

    def reported(self, case: Case) -> ReportedCase:
        """The case as it stands now, for pages, objects and mails."""
        history, deliveries = self.ledger.cases.history(case.case_id), self.ledger.deliveries.of(case.case_id)
        alert = self.ledger.alerts.get(case.case_id)
        return replace(
            reported_case(case, history, deliveries, self.folder(case.case_id)),
            superseded_report=self._superseded_report(case),
            acknowledged=alert is not None and alert.acknowledged_at is not None,
        )

    def _superseded_report(self, case: Case) -> Path | None:
        """The structured report of the latest earlier revision that made one."""
        if case.revision == 1 or case.series_uid is None:
            return None
        earlier = [other for other in self.ledger.cases.find(series_uid=case.series_uid) if other.revision < case.revision]
        reports = (self.folder(other.case_id).report for other in sorted(earlier, key=lambda other: -other.revision))
        return next((path for path in reports if path.is_file()), None)


def holder_name() -> str:
    """Who this process is, unmistakably: host, process id, and when it was started (ids are used again)."""
    return f"{socket.gethostname()}/{os.getpid()}/{int(psutil.Process().create_time())}"


def on_this_host(holder: str) -> bool:
    """Whether a holder is, or was, a process of this host."""
    return holder.rsplit("/", 2)[0] == socket.gethostname()


def holder_is_gone(holder: str) -> bool:
    """Whether a holder of this host has ended; holders of other hosts are taken as alive."""
    try:
        host, pid, started = holder.rsplit("/", 2)
        if host != socket.gethostname():
            return False
        process = psutil.Process(int(pid))
        # a container's first process may never ask how the orphans ended that it was given
        return int(process.create_time()) != int(started) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except ValueError:
        return False
