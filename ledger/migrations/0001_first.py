"""The first layout: arrivals, cases, instances, deliveries, outbox, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "arrivals",
        sa.Column("arrival_id", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("peer_ae_title", sa.String(16), nullable=False),
        sa.Column("peer_host", sa.String(255), nullable=False),
        sa.Column("email", sa.JSON, nullable=False),
        sa.Column("opened_at", sa.DateTime, nullable=False),
        sa.Column("closed_at", sa.DateTime),
        sa.Column("outcome", sa.String(16)),
        sa.Column("finished", sa.Boolean, nullable=False),
    )
    op.create_table(
        "cases",
        sa.Column("case_id", sa.String(16), primary_key=True),
        sa.Column("case_key", sa.String(64), unique=True),
        sa.Column("study_uid", sa.String(128)),
        sa.Column("series_uid", sa.String(128)),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("aligned_path", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32)),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("failed_stage", sa.String(16)),
        sa.Column("superseded_by", sa.String(16)),
        sa.Column("model", sa.String(64)),
        sa.Column("email", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(128)),
        sa.Column("lease_until", sa.DateTime),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("last_stored_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.Column("core_ml", sa.Float),
        sa.Column("side", sa.String(8)),
        sa.Column("alert", sa.Boolean),
        sa.Column("files_removed", sa.Boolean, nullable=False),
        sa.UniqueConstraint("series_uid", "revision"),
    )
    op.create_index("cases_by_state", "cases", ["state"])
    op.create_table(
        "instances",
        sa.Column("sop_instance_uid", sa.String(128), primary_key=True),
        sa.Column("series_uid", sa.String(128), nullable=False),
        sa.Column("first_revision", sa.Integer, nullable=False),
        sa.Column("arrival_id", sa.String(64), sa.ForeignKey("arrivals.arrival_id"), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("stored_at", sa.DateTime, nullable=False),
        sa.Column("header", sa.JSON, nullable=False),
    )
    op.create_index("instances_by_series", "instances", ["series_uid"])
    op.create_index("instances_by_arrival", "instances", ["arrival_id"])
    op.create_table(
        "set_aside",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("arrival_id", sa.String(64), sa.ForeignKey("arrivals.arrival_id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_index("set_aside_by_arrival", "set_aside", ["arrival_id"])
    op.create_table(
        "series_arrivals",
        sa.Column("series_uid", sa.String(128), primary_key=True),
        sa.Column("arrival_id", sa.String(64), sa.ForeignKey("arrivals.arrival_id"), primary_key=True),
    )
    op.create_table(
        "deliveries",
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.case_id"), primary_key=True),
        sa.Column("destination", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.DateTime),
        sa.Column("next_attempt_at", sa.DateTime),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("sent_at", sa.DateTime),
    )
    op.create_index("deliveries_by_state", "deliveries", ["state"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("case_id", sa.String(16), nullable=False),
        sa.Column("destination", sa.String(64)),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("not_before", sa.DateTime, nullable=False),
        sa.Column("published_at", sa.DateTime),
    )
    op.create_index("outbox_waiting", "outbox", ["published_at", "not_before"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("case_id", sa.String(16)),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("audit_by_case", "audit", ["case_id"])
