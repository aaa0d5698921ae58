"""The audit trail can only grow: the database itself refuses to change or remove a line."""

from __future__ import annotations

from sqlalchemy import Connection, text


def make_append_only(connection: Connection) -> None:
    """Let the database itself refuse to change or remove a line."""
    words = "the audit trail is append-only"
    if connection.dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            connection.execute(
                text(
                    f"CREATE TRIGGER IF NOT EXISTS audit_no_{act.lower()} BEFORE {act} ON audit "
                    f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
                )
            )
        # REPLACE removes a line without asking the trigger above
        known = "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
        connection.execute(
            text(
                f"CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit {known} "
                f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )
        )
        return
    connection.execute(
        text(
            "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{words}'; END $$"
        )
    )
    for act in ("UPDATE", "DELETE", "TRUNCATE"):
        name = f"audit_no_{act.lower()}"
        connection.execute(text(f"DROP TRIGGER IF EXISTS {name} ON audit"))
        connection.execute(
            text(f"CREATE TRIGGER {name} BEFORE {act} ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()")
        )
