"""Record of which recipient has which mail; in the programs the ledger keeps it. See `corewatch.mail_receipts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from corewatch.mail_receipts import MailEvent, MailReceipt, MailReceiptState


class MailReceipts(Protocol):
    """A durable record of mails; every method returns only when what it wrote would outlive a power cut."""

    def known(self, event: MailEvent) -> Mapping[str, MailReceipt]:
        """What is recorded of this event's mails, by recipient."""

    def begin(self, event: MailEvent, message_id: str, recipients: Sequence[str]) -> str | None:
        """Before the content is sent: record `sending` and one copy more. Returns why it must not be sent, or None."""

    def refuse(self, event: MailEvent, recipient: str, why: str, *, offered: bool) -> None:
        """Record that the server refused; where the content had been `offered`, that copy does not count."""

    def end(
        self,
        event: MailEvent,
        recipients: Sequence[str],
        state: MailReceiptState,
        detail: str = "",
        covers: Sequence[MailEvent] = (),
    ) -> None:
        """Record the outcome; the same for the events that a digest `covers`, so that nobody is mailed about them again."""


class MemoryMailReceipts:
    """A record that lives as long as the object: for connection tests, and as the model that the ledger's is compared with."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], MailReceipt] = {}

    def known(self, event: MailEvent) -> Mapping[str, MailReceipt]:
        """See `MailReceipts`."""
        return {recipient: receipt for (key, recipient), receipt in self._rows.items() if key == event.key}

    def begin(self, event: MailEvent, message_id: str, recipients: Sequence[str]) -> str | None:
        """See `MailReceipts`."""
        for recipient in recipients:
            before = self._rows.get((event.key, recipient), MailReceipt(MailReceiptState.SENDING, 0))
            self._rows[event.key, recipient] = MailReceipt(MailReceiptState.SENDING, before.copies + 1, message_id)
        return None

    def refuse(self, event: MailEvent, recipient: str, why: str, *, offered: bool) -> None:
        """See `MailReceipts`."""
        before = self._rows.get((event.key, recipient), MailReceipt(MailReceiptState.REFUSED, 0))
        self._rows[event.key, recipient] = replace(before, state=MailReceiptState.REFUSED, copies=before.copies - offered)

    def end(
        self,
        event: MailEvent,
        recipients: Sequence[str],
        state: MailReceiptState,
        detail: str = "",
        covers: Sequence[MailEvent] = (),
    ) -> None:
        """See `MailReceipts`."""
        for recipient in recipients:
            own = self._rows.get((event.key, recipient), MailReceipt(state, 0))
            self._rows[event.key, recipient] = replace(own, state=state)
            for covered in covers:
                before = self._rows.get((covered.key, recipient), MailReceipt(state, 0))
                self._rows[covered.key, recipient] = MailReceipt(state, before.copies, own.message_id)
