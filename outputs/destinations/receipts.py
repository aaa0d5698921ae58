"""Where it is remembered which recipient has which mail. In the programs that is the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from corewatch.letters import Event, LetterState, Receipt


class Receipts(Protocol):
    """A durable memory of mails; every method returns only when what it did would outlive a power cut."""

    def known(self, event: Event) -> Mapping[str, Receipt]:
        """What is known of this event's mails, by recipient."""

    def begin(self, event: Event, message_id: str, recipients: Sequence[str]) -> str | None:
        """The content is about to go out: `sending`, and one copy more. Returns why it must not, or None."""

    def refuse(self, event: Event, recipient: str, why: str, *, offered: bool) -> None:
        """The server said no: `refused`; where the content had been `offered`, that copy is none."""

    def end(
        self, event: Event, recipients: Sequence[str], state: LetterState, detail: str = "", covers: Sequence[Event] = ()
    ) -> None:
        """What became of it; the same of the events that a digest `covers`, so that nobody is told of them again."""


class MemoryReceipts:
    """A memory for as long as the object lives: for connection tests, and as the model that the ledger's is compared with."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Receipt] = {}

    def known(self, event: Event) -> Mapping[str, Receipt]:
        """What is known of this event's mails, by recipient."""
        return {recipient: receipt for (key, recipient), receipt in self._rows.items() if key == event.key}

    def begin(self, event: Event, message_id: str, recipients: Sequence[str]) -> str | None:
        """The content is about to go out."""
        for recipient in recipients:
            before = self._rows.get((event.key, recipient), Receipt(LetterState.SENDING, 0))
            self._rows[event.key, recipient] = Receipt(LetterState.SENDING, before.copies + 1, message_id)
        return None

    def refuse(self, event: Event, recipient: str, why: str, *, offered: bool) -> None:
        """The server said no."""
        before = self._rows.get((event.key, recipient), Receipt(LetterState.REFUSED, 0))
        self._rows[event.key, recipient] = replace(before, state=LetterState.REFUSED, copies=before.copies - offered)

    def end(
        self, event: Event, recipients: Sequence[str], state: LetterState, detail: str = "", covers: Sequence[Event] = ()
    ) -> None:
        """What became of it."""
        for recipient in recipients:
            own = self._rows.get((event.key, recipient), Receipt(state, 0))
            self._rows[event.key, recipient] = replace(own, state=state)
            for covered in covers:
                before = self._rows.get((covered.key, recipient), Receipt(state, 0))
                self._rows[covered.key, recipient] = Receipt(state, before.copies, own.message_id)
