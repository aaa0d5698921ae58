"""Mail receipts: a row per event and recipient, written before the content is sent and after the server has answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from corewatch.mail_receipts import MailEvent, MailKind, MailReceipt, MailReceiptState
from ledger.alerts import withdrawal_reason
from ledger.audit_trail import record
from ledger.database import Database
from ledger.tables import cases, mail_receipts


@dataclass(frozen=True, slots=True)
class RecipientMail:
    """One recipient's mail, as operators see it."""

    about: str
    destination: str
    kind: MailKind
    recipient: str
    message_id: str
    state: MailReceiptState
    attempts: int
    begun_at: datetime | None
    ended_at: datetime | None
    detail: str


class MailReceipts:
    """Satisfies `outputs.mail.receipts.MailReceipts`. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, event: MailEvent) -> Mapping[str, MailReceipt]:
        """What is known of this event's mails, by recipient."""
        with self._database.reading() as connection:
            rows = connection.execute(select(mail_receipts).where(mail_receipts.c.event_key == event.key))
            return {row.recipient: MailReceipt(MailReceiptState(row.state), row.attempts, row.message_id) for row in rows}

    def of(self, about: str) -> list[RecipientMail]:
        """All mails about a case or a digest, in the order in which they began."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(mail_receipts)
                .where(mail_receipts.c.about == about)
                .order_by(mail_receipts.c.begun_at, mail_receipts.c.recipient)
            )
            return [
                RecipientMail(
                    row.about, row.destination, MailKind(row.kind), row.recipient, row.message_id, MailReceiptState(row.state),
                    row.attempts, row.begun_at, row.ended_at, row.detail,
                )
                for row in rows
            ]  # fmt: skip

    def begin(self, event: MailEvent, message_id: str, recipients: Sequence[str]) -> str | None:
        """Record that the content is about to be sent. Returns why it must not be: the alert of an escalation is acknowledged."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            if event.kind is MailKind.ESCALATION and (why := withdrawal_reason(connection, event.about)) is not None:
                return why
            for recipient in recipients:
                row = mail_receipts.c.event_key == event.key, mail_receipts.c.recipient == recipient
                values = {
                    "state": MailReceiptState.SENDING,
                    "begun_at": now,
                    "ended_at": None,
                    "detail": "",
                    "message_id": message_id,
                }
                begun = update(mail_receipts).where(*row).values(attempts=mail_receipts.c.attempts + 1, **values)
                if not connection.execute(begun).rowcount:
                    connection.execute(insert(mail_receipts).values(**_columns(event), recipient=recipient, attempts=1, **values))
            _record(connection, now, "letter.sending", event, recipients)
        return None

    def refuse(self, event: MailEvent, recipient: str, why: str, *, offered: bool) -> None:
        """Record a refusal; if the content had been offered, that copy does not count."""
        now = self._database.clock()
        with self._database.transaction() as connection:
            _put(connection, event, recipient, {"state": MailReceiptState.REFUSED, "ended_at": now, "detail": why})
            if offered:
                row = mail_receipts.c.event_key == event.key, mail_receipts.c.recipient == recipient
                connection.execute(update(mail_receipts).where(*row).values(attempts=mail_receipts.c.attempts - 1))
            _record(connection, now, "letter.refused", event, [recipient], why=why)

    def end(
        self,
        event: MailEvent,
        recipients: Sequence[str],
        state: MailReceiptState,
        detail: str = "",
        covers: Sequence[MailEvent] = (),
    ) -> None:
        """Record the outcome, and the same outcome of the events that a digest covers, in one transaction."""
        if not recipients:
            return
        now = self._database.clock()
        with self._database.transaction() as connection:
            for recipient in recipients:
                own = mail_receipts.c.event_key == event.key, mail_receipts.c.recipient == recipient
                values = {"state": state, "ended_at": now, "detail": detail}
                _put(connection, event, recipient, values)
                if covers:
                    values["message_id"] = connection.scalar(select(mail_receipts.c.message_id).where(*own))
                for covered in covers:
                    _put(connection, covered, recipient, values)
            why = {"why": detail} if detail else {}
            _record(connection, now, f"letter.{state}", event, recipients, **why)
            for covered in covers:
                _record(connection, now, f"letter.{state}", covered, recipients, digest=event.about, **why)


def has_been_accepted(connection: Connection, case_id: str, destination: str) -> bool:
    """Whether a mail server has accepted the mail of this destination about the case for any recipient."""
    mine = (mail_receipts.c.about == case_id) & (mail_receipts.c.destination == destination)
    accepted = mail_receipts.c.state == MailReceiptState.ACCEPTED
    return connection.scalar(select(mail_receipts.c.recipient).where(mine, accepted).limit(1)) is not None


def _put(connection: Connection, event: MailEvent, recipient: str, values: Mapping[str, Any]) -> None:
    row = mail_receipts.c.event_key == event.key, mail_receipts.c.recipient == recipient
    if not connection.execute(update(mail_receipts).where(*row).values(**values)).rowcount:
        new = {"message_id": "", **_columns(event), **values, "recipient": recipient, "attempts": 0}
        connection.execute(insert(mail_receipts).values(new))


def _columns(event: MailEvent) -> dict[str, str]:
    return {"event_key": event.key, "about": event.about, "destination": event.destination, "kind": str(event.kind)}


def _record(connection: Connection, at: datetime, name: str, event: MailEvent, recipients: Sequence[str], **more: str) -> None:
    about_a_case = connection.scalar(select(cases.c.case_id).where(cases.c.case_id == event.about)) is not None
    what: dict[str, Any] = {"destination": event.destination, "kind": str(event.kind), "to": list(recipients), **more}
    if about_a_case:
        record(connection, at, name, event.about, **what)
    else:
        record(connection, at, name, digest=event.about, **what)
