"""The version of the tables, for programs from before these revision scripts; `ledger.schema` writes it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True))
