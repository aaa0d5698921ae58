"""Mail receipts: which recipient has which mail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "letters",
        sa.Column("event_key", sa.String(32), primary_key=True),
        sa.Column("recipient", sa.String(320), primary_key=True),
        sa.Column("about", sa.String(16), nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("message_id", sa.String(320), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("begun_at", sa.DateTime),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("letters_by_about", "letters", ["about"])
    op.create_index("letters_by_time", "letters", ["destination", "ended_at"])
