"""The ledger's tables. Times are UTC; nothing here names a patient."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC moments, also in databases that drop the zone (SQLite)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Store as naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


SCHEMA_VERSION = 3
"""Layout for programs from before `ledger/migrations`, which refuse every other number than theirs (1 or 2). It stays as it is: a
change of a table is a new script there."""

schema = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

arrivals = Table(
    "arrivals",
    metadata,
    Column("arrival_id", String(64), primary_key=True),
    Column("source", String(16), nullable=False),
    Column("peer_ae_title", String(16), nullable=False),
    Column("peer_host", String(255), nullable=False),
    Column("email", JSON, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("outcome", String(16)),
    # all files of a closed arrival are in the ledger: it need not be looked at again
    Column("finished", Boolean, nullable=False, default=False),
)

cases = Table(
    "cases",
    metadata,
    Column("case_id", String(16), primary_key=True),
    Column("case_key", String(64), unique=True),
    Column("study_uid", String(128)),
    Column("series_uid", String(128)),
    Column("revision", Integer, nullable=False),
    # path of an already aligned head, relative to the received folder; null for DICOM
    Column("aligned_path", Text),
    Column("state", String(16), nullable=False),
    Column("reason", String(32)),
    Column("detail", Text, nullable=False, default=""),
    Column("failed_stage", String(16)),
    Column("superseded_by", String(16)),
    Column("model", String(64)),
    Column("email", JSON, nullable=False),
    # attempts of the present stage, and who holds it until when
    Column("attempts", Integer, nullable=False, default=0),
    Column("holder", String(128)),
    Column("lease_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_stored_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # what the worklist shows without opening the case folder
    Column("core_ml", Float),
    Column("side", String(8)),
    Column("alert", Boolean),
    # codes of `corewatch.cautions`, the gravest first; null before the model has run
    Column("cautions", JSON),
    # placement range, see `corewatch.findings.Finding`
    Column("core_ml_low", Float),
    Column("core_ml_high", Float),
    Column("unstable", Boolean),
    Column("scanner", String(160)),  # manufacturer and model
    # keyed hashes, so that a case is found by an identifier that the ledger does not hold; see `corewatch.search_keys`
    Column("accession_hash", String(64)),
    Column("patient_id_hash", String(64)),
    Column("files_removed", Boolean, nullable=False, default=False),
    UniqueConstraint("series_uid", "revision"),
    Index("cases_by_state", "state"),
    Index("cases_by_last_image", "last_stored_at", "case_id"),
    Index("cases_by_accession", "accession_hash"),
    Index("cases_by_patient_id", "patient_id_hash"),
)

instances = Table(
    "instances",
    metadata,
    Column("sop_instance_uid", String(128), primary_key=True),
    Column("series_uid", String(128), nullable=False),
    # the instance belongs to this revision of its series and to every later one
    Column("first_revision", Integer, nullable=False),
    Column("arrival_id", String(64), ForeignKey("arrivals.arrival_id"), nullable=False),
    Column("path", Text, nullable=False),  # relative to the received folder
    Column("sha256", String(64), nullable=False),
    Column("stored_at", UtcDateTime, nullable=False),
    Column("header", JSON, nullable=False),
    Index("instances_by_series", "series_uid"),
    Index("instances_by_arrival", "arrival_id"),
)

# files that belong to no case: a known UID with other content, a repeated file, a truncated or unreadable one
quarantined_files = Table(
    "set_aside",
    metadata,
    Column("path", Text, primary_key=True),
    Column("arrival_id", String(64), ForeignKey("arrivals.arrival_id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("set_aside_by_arrival", "arrival_id"),
)

# arrivals that hold instances of a series: while one of them is open, more may arrive
series_arrivals = Table(
    "series_arrivals",
    metadata,
    Column("series_uid", String(128), primary_key=True),
    Column("arrival_id", String(64), ForeignKey("arrivals.arrival_id"), primary_key=True),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("case_id", String(16), ForeignKey("cases.case_id"), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("planned_at", UtcDateTime, nullable=False),
    # attempts that failed in corewatch or ended with their worker, not those that the destination deferred
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_until", UtcDateTime),
    Column("next_attempt_at", UtcDateTime),
    Column("detail", Text, nullable=False, default=""),
    Column("sent_at", UtcDateTime),
    # who is sending, and the digest that it is a part of
    Column("holder", String(128)),
    Column("digest", String(16)),
    Index("deliveries_by_state", "state"),
)

# storage commitment requests sent to a PACS; a delivery may take several transactions
commitment_requests_sent = Table(
    "commitments_asked",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("case_id", String(16), ForeignKey("cases.case_id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("instances", JSON, nullable=False),  # SOP Instance UIDs
    Column("asked_at", UtcDateTime, nullable=False),
    Column("deadline", UtcDateTime, nullable=False),
    Column("reported_at", UtcDateTime),
    Column("committed", JSON),  # SOP Instance UIDs
    Column("failed", JSON),  # pairs of SOP Instance UID and Failure Reason
    Index("commitments_asked_by_delivery", "case_id", "destination"),
)

# storage commitment requests received, and whether the peer has our report
commitment_requests_received = Table(
    "commitments_owed",
    metadata,
    Column("id", String(64), primary_key=True),  # of who asked, and the transaction
    Column("transaction_uid", String(64), nullable=False),
    Column("peer_ae_title", String(16), nullable=False),
    Column("peer_host", String(255), nullable=False),
    Column("instances", JSON, nullable=False),  # pairs of SOP Class UID and SOP Instance UID
    Column("asked_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime),  # null: over
    Column("ended_at", UtcDateTime),
    Column("detail", Text, nullable=False, default=""),
    Index("commitments_owed_waiting", "next_attempt_at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("stage", String(16), nullable=False),
    Column("case_id", String(16), nullable=False),
    Column("destination", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime),
    Index("outbox_waiting", "published_at", "not_before"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("case_id", String(16)),
    Column("event", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("audit_by_case", "case_id"),
)

# mails: one row per event (a case's end, a digest, a level of escalation) and recipient; see `corewatch.mail_receipts`
mail_receipts = Table(
    "letters",
    metadata,
    Column("event_key", String(32), primary_key=True),
    Column("recipient", String(320), primary_key=True),
    Column("about", String(16), nullable=False),  # the case's id, or the digest's
    Column("destination", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("message_id", String(320), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),  # copies that the recipient may have
    Column("begun_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("detail", Text, nullable=False),
    Index("letters_by_about", "about"),
    Index("letters_by_time", "destination", "ended_at"),
)

# mails that took a place in the hour, see `corewatch.mail_throttle`; older ones are forgotten
mail_places = Table(
    "mail_places",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("destination", String(64), nullable=False),
    Column("about", String(16), nullable=False),  # the case's id, or the digest's
    Column("digest", Boolean, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("mail_places_by_time", "destination", "at"),
)

# positive findings, and who has acknowledged them
alerts = Table(
    "alerts",
    metadata,
    Column("case_id", String(16), ForeignKey("cases.case_id"), primary_key=True),
    Column("raised_at", UtcDateTime, nullable=False),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(200)),
    Column("acknowledged_as", String(64)),  # the list whose link was used
    Index("alerts_open", "acknowledged_at"),
)

escalations = Table(
    "escalations",
    metadata,
    Column("case_id", String(16), ForeignKey("cases.case_id"), primary_key=True),
    Column("level", Integer, primary_key=True),
    Column("due_at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, posted, cancelled
    Column("ended_at", UtcDateTime),
    Index("escalations_by_time", "state", "due_at"),
)

# the last line that each forwarding program has read
audit_cursors = Table(
    "audit_cursors",
    metadata,
    Column("reader", String(64), primary_key=True),
    Column("last_id", Integer, nullable=False),
)

# people who sign in to the portal with a password
portal_users = Table(
    "portal_users",
    metadata,
    Column("login", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("password_hash", String(255), nullable=False),  # argon2id; empty: no password yet
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
)

portal_sessions = Table(
    "portal_sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),  # SHA-256 of the cookie
    Column("login", String(100), nullable=False),
    Column("name", String(100), nullable=False),
    Column("roles", JSON, nullable=False),  # at sign-in; those of a local user are read from its row
    Column("method", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Index("portal_sessions_by_login", "login"),
    Index("portal_sessions_by_time", "created_at"),
)

# bearer tokens of programs, and links that sign in once
portal_tokens = Table(
    "portal_tokens",
    metadata,
    Column("id", String(16), primary_key=True),  # names it in lists and in the audit trail
    Column("token_hash", String(64), nullable=False, unique=True),  # SHA-256
    Column("kind", String(16), nullable=False),
    Column("login", String(64), ForeignKey("portal_users.login"), nullable=False),
    Column("label", String(100), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Index("portal_tokens_by_login", "login"),
)

# failed attempts to sign in, of the last minutes
portal_failures = Table(
    "portal_failures",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("subject", String(64), nullable=False),  # hash of an account or an address
    Column("at", UtcDateTime, nullable=False),
    Index("portal_failures_by_subject", "subject", "at"),
)

# objects of a case that a PACS or archive has accepted since the delivery was planned
stored_objects = Table(
    "stored_objects",
    metadata,
    Column("case_id", String(16), ForeignKey("cases.case_id"), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("status", Integer, nullable=False),  # 0x0000 or a warning
    Column("stored_at", UtcDateTime, nullable=False),
)
