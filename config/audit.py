"""Settings of the audit trail's forwarding to an audit record repository."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from config.section import Port, Section


class SyslogSettings(Section):
    """An audit record repository (IHE ATNA) that receives DICOM audit messages by syslog over TLS."""

    host: str
    port: Port = 6514
    authority: Path | None = None
    """CA certificate (PEM) that the server's certificate must come from; null: the system's CAs."""
    certificate: Path | None = None
    """Client certificate (PEM), if the server requires one; needs `key`."""
    key: Path | None = None
    """Private key (PEM) of the client certificate."""
    source_id: str = "corewatch"
    """AuditSourceID in the messages."""
    patient_id: bool = False
    """Send the real Patient ID (0010,0020), as IHE ATNA expects. False: send a pseudonym of it, a keyed hash with the key of this
    installation (`own.key`); it is the same in all studies of a patient. The patient's name is never sent."""
    timeout_s: float = Field(10.0, gt=0)


class AuditSettings(Section):
    """Where the audit trail is sent, besides the ledger."""

    syslog: SyslogSettings | None = None
