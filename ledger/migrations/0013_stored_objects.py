"""Which objects of a case an archive has stored, so that a delivery that broke off goes on instead of beginning again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"


def upgrade() -> None:
    """Create the table, empty: a delivery that is open now sends every object once more."""
    op.create_table(
        "stored_objects",
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.case_id"), primary_key=True),
        sa.Column("destination", sa.String(64), primary_key=True),
        sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("stored_at", sa.DateTime, nullable=False),
    )
