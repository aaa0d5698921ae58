"""Periodic work: dispatch, overdue work and alerts, retention, free disk, storage commitment, audit forwarding."""

from daemon.upkeep.audit_forwarding import AuditForwarder
from daemon.upkeep.disk import DiskWatch
from daemon.upkeep.dispatcher import Dispatcher, Publish
from daemon.upkeep.overdue import Reconciler, escalate_alerts
from daemon.upkeep.retention import Retention
from daemon.upkeep.storage_commitment import StorageCommitment
from daemon.upkeep.waiting_cases import WaitingCasesWatch

__all__ = [
    "AuditForwarder",
    "DiskWatch",
    "Dispatcher",
    "Publish",
    "Reconciler",
    "Retention",
    "StorageCommitment",
    "WaitingCasesWatch",
    "escalate_alerts",
]
