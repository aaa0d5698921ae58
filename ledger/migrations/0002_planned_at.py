"""When each delivery was planned: the age by which an overdue one is posted again ever more rarely."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. Of a delivery that is there already the case's last change is the best known moment."""
    op.add_column("deliveries", sa.Column("planned_at", sa.DateTime))
    op.execute("UPDATE deliveries SET planned_at = (SELECT cases.updated_at FROM cases WHERE cases.case_id = deliveries.case_id)")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.alter_column("planned_at", existing_type=sa.DateTime(), nullable=False)
