"""Sessions of the portal, by the SHA-256 of their cookie; and failed attempts to sign in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from corewatch.roles import Role, known_roles
from ledger.audit_trail import record
from ledger.database import Database
from ledger.tables import portal_failures, portal_sessions

SEEN_EVERY: Final = timedelta(seconds=60)
"""How exactly the last use of a session is known; a write for each request would load the ledger."""


def digest(secret: str) -> str:
    """What the ledger keeps of a random secret: its SHA-256. Not for passwords, which are guessable."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Session:
    """One browser of one person."""

    token_hash: str
    login: str
    name: str
    roles: frozenset[Role]
    method: str
    created_at: datetime
    seen_at: datetime


class PortalSessions:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, secret: str, login: str, name: str, roles: Iterable[Role], method: str, longest: timedelta) -> None:
        """Open a session for a new secret of at least 256 random bits, and forget those that are over."""
        now = self._database.clock()
        row = {"token_hash": digest(secret), "login": login, "name": name, "roles": sorted(map(str, roles)), "method": method}
        with self._database.transaction() as connection:
            connection.execute(delete(portal_sessions).where(portal_sessions.c.created_at <= now - longest))
            connection.execute(insert(portal_sessions).values(**row, created_at=now, seen_at=now))
            record(connection, now, "portal.signed_in", by=login, method=method)

    def find(self, secret: str, idle: timedelta, longest: timedelta, *, used: bool) -> Session | None:
        """The session of this secret; None where it is unknown or over.

        Parameters
        ----------
        idle, longest
            Time without use, and since sign-in, after which a session is over.
        used
            Whether this counts as use. A page that refreshes itself is none.
        """
        now = self._database.clock()
        key = digest(secret)
        with self._database.reading() as connection:
            row = connection.execute(select(portal_sessions).where(portal_sessions.c.token_hash == key)).one_or_none()
        if row is None or now - row.seen_at >= idle or now - row.created_at >= longest or row.created_at - now > SEEN_EVERY:
            return None  # a session of the future: the clock was set back
        if used and now - row.seen_at >= min(SEEN_EVERY, idle / 10):
            with self._database.transaction() as connection:
                connection.execute(update(portal_sessions).where(portal_sessions.c.token_hash == key).values(seen_at=now))
        return Session(key, row.login, row.name, known_roles(row.roles), row.method, row.created_at, row.seen_at)

    def close(self, secret: str) -> None:
        """End the session of this secret, where there is one."""
        now = self._database.clock()
        mine = portal_sessions.c.token_hash == digest(secret)
        with self._database.transaction() as connection:
            login = connection.scalar(select(portal_sessions.c.login).where(mine))
            if connection.execute(delete(portal_sessions).where(mine)).rowcount:
                record(connection, now, "portal.signed_out", by=login)

    def close_all(self, login: str, by: str) -> int:
        """End every session of a login; returns how many there were."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            ended = connection.execute(delete(portal_sessions).where(portal_sessions.c.login == login)).rowcount
            if ended:
                record(connection, now, "portal.sessions_revoked", login=login, by=by)
        return ended


class SignInFailures:
    """Failed attempts to sign in, by account and by address, across all processes of the portal.

    Subjects are kept as hashes: people type passwords into the field of the login.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, subjects: Iterable[str], most: int, within: timedelta) -> bool:
        """Count an attempt against each subject before its password is verified; False, not counted, if one has no attempt left.

        Counting first keeps attempts that are made at the same moment from being verified all.
        """
        now = self._database.clock()
        keys = [digest(subject) for subject in subjects]
        with self._database.reading() as connection:  # a refused attempt must not cost a write
            if any(_failures(connection, key, now, within) >= most for key in keys):
                return False
        with self._database.transaction() as connection:
            over = (portal_failures.c.at <= now - within) | (portal_failures.c.at > now)  # the clock may have been set back
            connection.execute(delete(portal_failures).where(over))
            if any(_failures(connection, key, now, within) >= most for key in keys):
                return False
            connection.execute(insert(portal_failures), [{"subject": key, "at": now} for key in keys])
        return True

    def succeeded(self, account: str, address: str) -> None:
        """Forget the account's failures, and this attempt of the address."""
        with self._database.transaction() as connection:
            connection.execute(delete(portal_failures).where(portal_failures.c.subject == digest(account)))
            last = select(func.max(portal_failures.c.id)).where(portal_failures.c.subject == digest(address)).scalar_subquery()
            connection.execute(delete(portal_failures).where(portal_failures.c.id == last))

    def note(self, method: str, login: str | None, address: str, why: str) -> None:
        """Record a refused attempt in the audit trail; `login` only where the account is known."""
        with self._database.transaction() as connection:
            record(connection, self._database.clock(), "portal.sign_in_refused", by=login, method=method, address=address, why=why)


def _failures(connection: Connection, key: str, now: datetime, within: timedelta) -> int:
    recent = (portal_failures.c.subject == key) & (portal_failures.c.at > now - within) & (portal_failures.c.at <= now)
    return connection.scalar(select(func.count()).select_from(portal_failures).where(recent)) or 0
