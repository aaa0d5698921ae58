"""Mail digests: who sends a delivery, the digest that it is part of, and the mails of the past hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add both columns and the table."""
    op.add_column("deliveries", sa.Column("holder", sa.String(128)))
    op.add_column("deliveries", sa.Column("digest", sa.String(16)))
    op.create_table(
        "mail_places",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("about", sa.String(16), nullable=False),
        sa.Column("digest", sa.Boolean, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_index("mail_places_by_time", "mail_places", ["destination", "at"])
