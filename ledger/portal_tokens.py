"""Bearer tokens of programs and links that sign in once: scope, expiry, SHA-256."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, insert, select, update

from corewatch.roles import Role, known_roles
from ledger.audit_trail import record
from ledger.database import Database
from ledger.portal_sessions import SEEN_EVERY, digest
from ledger.tables import portal_tokens

PREFIX: Final = "cw_"
"""Start of every token, by which scanners for secrets recognise it."""


class TokenKind(StrEnum):
    """What a token is for."""

    API = "api"
    """`Authorization: Bearer`, until it expires."""
    ONCE = "once"
    """A link that signs its user in one time."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret."""

    id: str
    kind: TokenKind
    login: str
    label: str
    roles: frozenset[Role]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Whether it is neither expired, revoked nor, if it is for one use, used."""
        spent = self.kind is TokenKind.ONCE and self.used_at is not None
        return now < self.expires_at and self.revoked_at is None and not spent


class PortalTokens:
    """Each method is one transaction. `by` names who makes the change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, login: str, label: str, roles: Iterable[Role], valid_for: timedelta, by: str, kind: TokenKind = TokenKind.API
    ) -> tuple[Token, str]:
        """Make a token of 256 random bits for an existing user; returns it and its secret, which is kept nowhere."""
        now = self._database.clock()
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(secrets.token_hex(4), kind, login, label, frozenset(roles), now, now + valid_for, None, None)
        names = sorted(map(str, token.roles))
        with self._database.transaction() as connection:
            connection.execute(
                insert(portal_tokens).values(
                    id=token.id, token_hash=digest(secret), kind=str(kind), login=login, label=label, roles=names,
                    created_at=now, expires_at=token.expires_at,
                )
            )  # fmt: skip
            expiry = token.expires_at.isoformat()
            record(connection, now, "token.added", token=token.id, kind=str(kind), login=login, roles=names, until=expiry, by=by)
        return token, secret

    def all(self, login: str | None = None) -> list[Token]:
        """Tokens of a user or of everybody, newest first."""
        query = select(portal_tokens).order_by(portal_tokens.c.created_at.desc(), portal_tokens.c.id)
        if login is not None:
            query = query.where(portal_tokens.c.login == login)
        with self._database.reading() as connection:
            return [_token(row) for row in connection.execute(query)]

    def revoke(self, token_id: str, by: str) -> bool:
        """Accept this token no longer; False where there is none, or it was revoked before."""
        now = self._database.clock()
        valid = (portal_tokens.c.id == token_id) & portal_tokens.c.revoked_at.is_(None)
        with self._database.transaction() as connection:
            if not connection.execute(update(portal_tokens).where(valid).values(revoked_at=now)).rowcount:
                return False
            record(connection, now, "token.revoked", token=token_id, by=by)
        return True

    def find(self, secret: str, kind: TokenKind) -> Token | None:
        """The valid token of this kind with this secret, and note its use to the minute if it is for several."""
        now = self._database.clock()
        with self._database.reading() as connection:
            row = connection.execute(select(portal_tokens).where(_of(secret, kind))).one_or_none()
        token = None if row is None else _token(row)
        if token is None or not token.is_valid(now):
            return None
        if kind is TokenKind.API and (token.used_at is None or now - token.used_at >= SEEN_EVERY):
            with self._database.transaction() as connection:
                connection.execute(update(portal_tokens).where(portal_tokens.c.id == token.id).values(used_at=now))
        return token

    def use_once(self, secret: str) -> Token | None:
        """Spend a link; None where it is not valid, or another request was faster."""
        token = self.find(secret, TokenKind.ONCE)
        if token is None:
            return None
        unused = (portal_tokens.c.id == token.id) & portal_tokens.c.used_at.is_(None) & portal_tokens.c.revoked_at.is_(None)
        now = self._database.clock()
        with self._database.transaction() as connection:
            spent = connection.execute(update(portal_tokens).where(unused).values(used_at=now)).rowcount
        return token if spent else None


def _of(secret: str, kind: TokenKind) -> ColumnElement[bool]:
    return (portal_tokens.c.token_hash == digest(secret)) & (portal_tokens.c.kind == str(kind))


def _token(row: Row[Any]) -> Token:
    return Token(
        row.id, TokenKind(row.kind), row.login, row.label, known_roles(row.roles), row.created_at, row.expires_at, row.used_at,
        row.revoked_at,
    )  # fmt: skip
