"""The audit trail is append-only in the database itself, and readers that forward it remember how far they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_REFUSAL = "the audit trail is append-only"


def upgrade() -> None:
    """Create the table and the triggers. `ledger.schema.TRIGGERS` holds the triggers' names."""
    op.create_table(
        "audit_cursors",
        sa.Column("reader", sa.String(64), primary_key=True),
        sa.Column("last_id", sa.Integer, nullable=False),
    )
    if op.get_context().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER IF NOT EXISTS audit_no_{act.lower()} BEFORE {act} ON audit "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
        # REPLACE removes a line without firing the trigger for DELETE
        known = "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
        op.execute(
            f"CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit {known} "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    for act in ("UPDATE", "DELETE", "TRUNCATE"):
        name = f"audit_no_{act.lower()}"
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON audit")
        op.execute(f"CREATE TRIGGER {name} BEFORE {act} ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()")
