"""Alerts with their acknowledgement, and the levels of their escalation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create both tables. An alert whose mails are on their way can be acknowledged; its escalation was never planned."""
    op.create_table(
        "alerts",
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.case_id"), primary_key=True),
        sa.Column("raised_at", sa.DateTime, nullable=False),
        sa.Column("acknowledged_at", sa.DateTime),
        sa.Column("acknowledged_by", sa.String(200)),
        sa.Column("acknowledged_as", sa.String(64)),
    )
    op.create_table(
        "escalations",
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.case_id"), primary_key=True),
        sa.Column("level", sa.Integer, primary_key=True),
        sa.Column("due_at", sa.DateTime, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ended_at", sa.DateTime),
    )
    op.create_index("escalations_by_time", "escalations", ["state", "due_at"])
    op.execute(
        "INSERT INTO alerts (case_id, raised_at) SELECT case_id, updated_at FROM cases WHERE alert = true AND state = 'delivering'"
    )
