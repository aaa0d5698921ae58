"""Bringing letters to the mail server so that each recipient gets each of them once, as far as SMTP allows.

See `corewatch.letters` for what is remembered, and for what is done when nobody knows whether a mail was taken.
"""

from __future__ import annotations

import smtplib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from typing import Final

from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.letters import Event, LetterState, Next, what_next
from outputs.destinations.base import NothingToDeliver
from outputs.destinations.receipts import Receipts
from outputs.mail.smtp import MailServer, Refusal, is_open, session, submit

_MOST_BROKEN: Final = 2
"""Connections that may break off under a letter before the others wait as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Letter:
    """One message to one list of recipients.

    Attributes
    ----------
    compose
        Makes the message; True: perhaps the recipients have it already.
    covers
        What a digest tells of: who has taken it has heard of these.
    """

    event: Event
    message_id: str
    recipients: tuple[str, ...]
    compose: Callable[[bool], EmailMessage]
    covers: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Posted:
    """How many recipients got something now, and of how many nobody knows."""

    taken: int
    unknown: int

    def __str__(self) -> str:
        words = f"taken for {_count(self.taken)}" if self.taken else "all recipients have it already"
        return words + (f"; not known whether {_count(self.unknown)} have it, and not sent again" if self.unknown else "")


@dataclass(frozen=True, slots=True)
class Posting:
    """What became of some letters; `refused` has those that somebody has not got."""

    posted: Posted
    refused: Mapping[Letter, tuple[Refusal, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A letter and those who are to get it now."""

    letter: Letter
    recipients: tuple[str, ...]
    repeated: bool


class Postman:
    """Sends letters, and remembers who has them. One whose connection breaks off, or whose server ends it, stops no other."""

    def __init__(self, server: MailServer, sender: str, receipts: Receipts) -> None:
        self._server = server
        self._sender = sender
        self._receipts = receipts

    def post(self, letters: Sequence[Letter]) -> Posted:
        """Send what is missing; a letter that is refused stops no other.

        Raises
        ------
        RetryLater, OperatorNeeded
            Somebody has not got it; the others are remembered.
        NothingToDeliver
            It must not be sent any more.
        """
        posting = self.bring(letters)
        problem = self.problem([refusal for refusals in posting.refused.values() for refusal in refusals])
        if problem is not None:
            raise problem
        return posting.posted

    def bring(self, letters: Sequence[Letter]) -> Posting:
        """As `post`, but refusals of single recipients are told and not raised.

        Raises
        ------
        RetryLater, OperatorNeeded
            The server is away, or wants nothing of us.
        NothingToDeliver
            It must not be sent any more.
        """
        unknown = sum(self._give_up(letter) for letter in letters)
        turns = [turn for letter in letters for turn in self._turns(letter)]
        if not turns:
            return Posting(Posted(0, unknown), {})
        taken, refused, broken = 0, dict[Letter, tuple[Refusal, ...]](), list[RetryLater]()
        left = deque(turns)
        while left:
            before = len(left)
            try:
                with session(self._server) as connection:
                    while left and is_open(connection):
                        turn = left.popleft()
                        accepted, refusals = self._submit(connection, turn)
                        taken += accepted
                        if refusals:
                            refused[turn.letter] = (*refused.get(turn.letter, ()), *refusals)
            except RetryLater as error:
                broken.append(error)
            if len(left) == before or len(broken) == _MOST_BROKEN:
                break  # there is no connection to be had, or none that lasts
        if broken:
            raise broken[0]
        return Posting(Posted(taken, unknown), refused)

    def _submit(self, connection: smtplib.SMTP, turn: _Turn) -> tuple[int, tuple[Refusal, ...]]:
        """One letter: how many have taken it, and who was refused."""
        event, letter = turn.letter.event, turn.letter
        message, offered = letter.compose(turn.repeated), set[str]()
        refusals = submit(connection, message, self._sender, turn.recipients, partial(self._begin, letter, offered))
        for refusal in refusals:
            why = f"{refusal.code} {refusal.words}"
            self._receipts.refuse(event, refusal.recipient, why, offered=refusal.recipient in offered)
        accepted = sorted(set(turn.recipients) - {refusal.recipient for refusal in refusals})
        self._receipts.end(event, accepted, LetterState.ACCEPTED, covers=letter.covers)
        return len(accepted), refusals

    def _begin(self, letter: Letter, offered: set[str], recipients: tuple[str, ...]) -> None:
        withdrawn = self._receipts.begin(letter.event, letter.message_id, recipients)
        if withdrawn is not None:
            raise NothingToDeliver(withdrawn)
        offered.update(recipients)

    def _turns(self, letter: Letter) -> list[_Turn]:
        """At most two: those who lack it, and those who perhaps have it."""
        known = self._receipts.known(letter.event)
        found: list[_Turn] = []
        for step in (Next.SEND, Next.REPEAT):
            to = tuple(r for r in letter.recipients if what_next(known.get(r), letter.event.kind) is step)
            if to:
                found.append(_Turn(letter, to, step is Next.REPEAT))
        return found

    def _give_up(self, letter: Letter) -> int:
        known = self._receipts.known(letter.event)
        lost = [r for r in letter.recipients if what_next(known.get(r), letter.event.kind) is Next.GIVE_UP]
        if lost:
            self._receipts.end(letter.event, lost, LetterState.UNKNOWN, "the connection or the worker ended before the answer came")
        return len(lost)

    def problem(self, refused: Sequence[Refusal]) -> RetryLater | OperatorNeeded | None:
        """What refusals mean: one that will pass is waited for, whatever the others say."""
        if not refused:
            return None
        words = "; ".join(f"{refusal.recipient}: {refusal.code} {refusal.words}" for refusal in refused)
        if any(refusal.temporary for refusal in refused):
            return RetryLater(f"{self._server} refused the mail for now: {words}")
        return OperatorNeeded(
            f"{self._server} refused the mail: {words}", "check the addresses and its log, the others have the mail"
        )


def _count(recipients: int) -> str:
    return f"{recipients} recipient{'s' if recipients != 1 else ''}"
