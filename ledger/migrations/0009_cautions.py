"""Cautions about a case's result, for lists that do not open the case folder."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column. Results from before have none."""
    op.add_column("cases", sa.Column("cautions", sa.JSON))
