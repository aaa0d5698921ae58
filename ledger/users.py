"""Users of the portal: login, name, roles, hash of the password. Each change is a line of the audit trail."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, update

from corewatch.roles import Role, known_roles
from ledger.audit_trail import record
from ledger.database import Database
from ledger.tables import portal_sessions, portal_tokens, portal_users

_LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


def parse_login(text: str) -> str | None:
    """A login as the ledger keeps it: in small letters. None for text that is none.

    >>> parse_login(" Ute.Brandt "), parse_login("a b")
    ('ute.brandt', None)
    """
    login = text.strip().lower()
    return login if _LOGIN.fullmatch(login) else None


@dataclass(frozen=True, slots=True)
class User:
    """A user who signs in with a password.

    Attributes
    ----------
    password_hash
        argon2id, with its parameters and salt; empty: nobody signs in with a password.
    """

    login: str
    name: str
    roles: frozenset[Role]
    password_hash: str
    created_at: datetime
    disabled_at: datetime | None

    @property
    def enabled(self) -> bool:
        """Whether this user may sign in."""
        return self.disabled_at is None


class Users:
    """Each method is one transaction. `by` names who makes the change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, login: str) -> User | None:
        """The user with this login; None where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(select(portal_users).where(portal_users.c.login == login)).one_or_none()
        return None if row is None else _user(row)

    def all(self) -> list[User]:
        """All users, by login."""
        with self._database.reading() as connection:
            return [_user(row) for row in connection.execute(select(portal_users).order_by(portal_users.c.login))]

    def any_enabled(self) -> bool:
        """Whether somebody may sign in."""
        query = select(func.count()).select_from(portal_users).where(portal_users.c.disabled_at.is_(None))
        with self._database.reading() as connection:
            return bool(connection.scalar(query))

    def add(self, login: str, name: str, roles: Iterable[Role], password_hash: str, by: str) -> bool:
        """Add a user; False where the login exists."""
        now = self._database.clock()
        names = sorted(map(str, roles))
        with self._database.transaction() as connection:
            if connection.scalar(select(func.count()).select_from(portal_users).where(portal_users.c.login == login)):
                return False
            connection.execute(
                insert(portal_users).values(login=login, name=name, roles=names, password_hash=password_hash, created_at=now)
            )
            record(connection, now, "user.added", login=login, roles=names, by=by)
        return True

    def set_roles(self, login: str, roles: Iterable[Role], by: str) -> bool:
        """Replace the roles, at once in open sessions too; False where there is no such user."""
        names = sorted(map(str, roles))
        return self._change(login, "user.roles_changed", {"roles": names}, {"roles": names, "by": by}, end_sessions=False)

    def set_password(self, login: str, password_hash: str, by: str) -> bool:
        """Replace the password and end the user's sessions; False where there is no such user."""
        return self._change(login, "user.password_changed", {"password_hash": password_hash}, {"by": by})

    def disable(self, login: str, by: str) -> bool:
        """End the user's sessions, accept neither password nor token; False where there is no such user."""
        return self._change(login, "user.disabled", {"disabled_at": self._database.clock()}, {"by": by})

    def enable(self, login: str, by: str) -> bool:
        """Accept password and tokens again; False where there is no such user."""
        return self._change(login, "user.enabled", {"disabled_at": None}, {"by": by})

    def rehash(self, login: str, before: str, password_hash: str) -> None:
        """Store the hash of the same password with present parameters, unless the password was changed meanwhile."""
        mine = (portal_users.c.login == login) & (portal_users.c.password_hash == before)
        with self._database.transaction() as connection:
            connection.execute(update(portal_users).where(mine).values(password_hash=password_hash))

    def _change(self, login: str, event: str, values: dict[str, Any], detail: dict[str, Any], *, end_sessions: bool = True) -> bool:
        now = self._database.clock()
        with self._database.transaction() as connection:
            if not connection.execute(update(portal_users).where(portal_users.c.login == login).values(values)).rowcount:
                return False
            if end_sessions:
                connection.execute(delete(portal_sessions).where(portal_sessions.c.login == login))
                once = (portal_tokens.c.login == login) & (portal_tokens.c.kind == "once") & portal_tokens.c.revoked_at.is_(None)
                connection.execute(update(portal_tokens).where(once).values(revoked_at=now))
            record(connection, now, event, login=login, **detail)
        return True


def _user(row: Row[Any]) -> User:
    return User(row.login, row.name, known_roles(row.roles), row.password_hash, row.created_at, row.disabled_at)
