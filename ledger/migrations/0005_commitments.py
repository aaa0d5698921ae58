"""Storage commitment: requests that we sent to a PACS, and requests that we received."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "commitments_asked",
        sa.Column("transaction_uid", sa.String(64), primary_key=True),
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.case_id"), nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("instances", sa.JSON, nullable=False),
        sa.Column("asked_at", sa.DateTime, nullable=False),
        sa.Column("deadline", sa.DateTime, nullable=False),
        sa.Column("reported_at", sa.DateTime),
        sa.Column("committed", sa.JSON),
        sa.Column("failed", sa.JSON),
    )
    op.create_index("commitments_asked_by_delivery", "commitments_asked", ["case_id", "destination"])
    op.create_table(
        "commitments_owed",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("peer_ae_title", sa.String(16), nullable=False),
        sa.Column("peer_host", sa.String(255), nullable=False),
        sa.Column("instances", sa.JSON, nullable=False),
        sa.Column("asked_at", sa.DateTime, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.DateTime),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("commitments_owed_waiting", "commitments_owed", ["next_attempt_at"])
