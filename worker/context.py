"""What one worker process holds: settings, ledger, destinations and, for the detect queue, its model."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, replace
from typing import Final

import psutil

from config.settings import Settings
from corewatch.casefolder import CaseFolder
from corewatch.destinations import parse_refusal_notice
from corewatch.states import Stage
from corewatch.stored_objects import NoStoredObjects, StoredObjectRecord
from foundation.keys import installation_key
from ledger.store import Ledger
from outputs.destinations import Destination, DestinationContext, build_destinations
from outputs.destinations.refusals import RefusalMail, RefusalWebhook
from outputs.links import Links
from outputs.mail.receipts import MailReceipts
from worker.models.detectors import Detectors
from worker.models.readiness import ModelKeeper

ATTEMPT_SHARE: Final = 1 / 3
"""Part of the soft time limit after which an attempt at an archive begins no further object: the rest is for the last one."""


@dataclass(slots=True)
class WorkerContext:
    """One per process, opened after the fork."""

    settings: Settings
    ledger: Ledger
    detectors: Detectors
    destinations: dict[str, Destination] = field(default_factory=dict)
    keeper: ModelKeeper | None = None
    """Keeps the model loaded; None in a worker without the detect queue."""

    @classmethod
    def open(cls, settings: Settings) -> WorkerContext:
        """Open the ledger and the destinations; a model is loaded on demand or by `Detectors.warm_up`."""
        ledger = Ledger(settings.database_url, lease_s=settings.work.lease_s)
        destinations = destinations_of(settings, ledger.mail_receipts, ledger.stored_objects)
        return cls(settings, ledger, Detectors(settings), destinations)

    def destination(self, name: str) -> Destination | None:
        """The destination of this name, or the notice about a refusal that the name stands for; None: it is not in the settings."""
        if (about := parse_refusal_notice(name)) is None or name in self.destinations:
            return self.destinations.get(name)
        reporter = self.destinations.get(about[0])
        return reporter.about(about[1]) if isinstance(reporter, RefusalMail | RefusalWebhook) else None

    def folder(self, case_id: str) -> CaseFolder:
        """The folder of a case."""
        return CaseFolder(self.settings.cases_dir / case_id)


def destinations_of(
    settings: Settings, receipts: MailReceipts | None = None, stored: StoredObjectRecord | None = None
) -> dict[str, Destination]:
    """All destinations by name; see `outputs.destinations.build_destinations`.

    Without `receipts` they serve connection tests only, and no key of this installation is made or read.
    """
    deliver, portal = settings.deliver, settings.portal
    context = DestinationContext(
        listener_ae_title=settings.listener.ae_title,
        stored=NoStoredObjects() if stored is None else stored,
        attempt_s=settings.work.limits.soft_s(Stage.DELIVER) * ATTEMPT_SHARE,
    )
    if receipts is not None and deliver.email is not None:
        context = replace(
            context,
            receipts=receipts,
            thread_key=installation_key(settings.data_dir, "mail threads"),
            link=None if portal is None or portal.url is None else Links(portal.link_key(settings.data_dir), portal.url).to,
        )
    return build_destinations(deliver, context)


def holder_name() -> str:
    """Name of this process as holder of a claim: host, process id and start time, since process ids are reused."""
    return f"{socket.gethostname()}/{os.getpid()}/{int(psutil.Process().create_time())}"


def on_this_host(holder: str) -> bool:
    """Whether the holder is, or was, a process of this host."""
    return holder.rsplit("/", 2)[0] == socket.gethostname()


def holder_is_gone(holder: str) -> bool:
    """Whether the holder was a process of this host and has ended; a holder of another host counts as alive."""
    try:
        host, pid, started = holder.rsplit("/", 2)
        if host != socket.gethostname():
            return False
        process = psutil.Process(int(pid))
        # process 1 of a container may never reap the orphans that it adopts
        return int(process.create_time()) != int(started) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except ValueError:
        return False
