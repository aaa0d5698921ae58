"""Settings of the audit trail's way out."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from config.section import Port, Section


class SyslogSettings(Section):
    """An audit record repository (IHE ATNA) that gets DICOM audit messages by syslog over TLS."""

    host: str
    port: Port = 6514
    authority: Path | None = None
    """PEM of the authority of the server's certificate; null: the system's."""
    certificate: Path | None = None
    """PEM of our certificate, where the server asks for one; with `key`."""
    key: Path | None = None
    """PEM of the certificate's key."""
    source_id: str = "corewatch"
    """Our name in the messages (AuditSourceID)."""
    patient_id: bool = False
    """Name the patient by the real Patient ID, (0010,0020), as IHE ATNA expects it. Off: by a pseudonym of it, made with a key of
    this installation (`own.key`): the same for all studies of a patient, and of no use to who lacks the key. The name is never
    sent."""
    timeout_s: float = Field(10.0, gt=0)


class AuditSettings(Section):
    """Where the audit trail goes besides the ledger."""

    syslog: SyslogSettings | None = None
