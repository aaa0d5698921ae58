"""Who has which mail: one row per event and recipient, and what to do with a row that is found again. Pure.

SMTP cannot promise "exactly once": between the moment the server has the whole message and the moment its answer is written down
here, nobody knows whether it was taken (RFC 1047). A row says `sending` in that time, and only then. What a later attempt does with
such a row depends on what the mail is for, see `next_step`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MailKind(StrEnum):
    """What a mail is for."""

    ALERT = "alert"
    """A positive finding: somebody must act."""
    RESULT = "result"
    """A finding without an alert."""
    NOTICE = "notice"
    """A case without a finding: somebody must read the images without one."""
    DIGEST = "digest"
    """Many cases in one mail."""
    ESCALATION = "escalation"
    """An alert that nobody has acknowledged, to the next list."""


class MailReceiptState(StrEnum):
    """Where the mail of one recipient is."""

    SENDING = "sending"
    """Written down after the server was ready for the message (354) and before its first byte went out."""
    ACCEPTED = "accepted"
    """The server answered the end of the message with 250."""
    REFUSED = "refused"
    """The server said no, to the recipient or to the message: it has not got this copy."""
    UNKNOWN = "unknown"
    """Perhaps the server has it; it is not sent again."""


@dataclass(frozen=True, slots=True)
class MailEvent:
    """What a mail tells of: the key, together with the recipient, under which it is remembered.

    Attributes
    ----------
    key
        Hash of case, revision, purpose and end: the same for a repeat, even if the lists have changed by then.
    about
        The case's id, or the digest's.
    destination
        Name of the destination that sends it.
    """

    key: str
    about: str
    destination: str
    kind: MailKind


@dataclass(frozen=True, slots=True)
class MailReceipt:
    """What is known of one recipient.

    Attributes
    ----------
    copies
        How many copies the recipient may have: a copy that was refused is none.
    message_id
        Of the last copy; where a digest told of the event, the digest's.
    """

    state: MailReceiptState
    copies: int
    message_id: str = ""


class NextStep(StrEnum):
    """What to do for a recipient."""

    SEND = "send"
    REPEAT = "repeat"
    """Send with the same Message-ID, marked: mail servers and readers can recognise the second copy."""
    LEAVE = "leave"
    """The recipient has it, or it was given up."""
    GIVE_UP = "give_up"
    """Perhaps the recipient has it: write down `unknown` and say so."""


MUST_ARRIVE: Final = frozenset({MailKind.ALERT, MailKind.NOTICE, MailKind.DIGEST, MailKind.ESCALATION})
"""Kinds of which a second copy is the smaller harm: somebody has to act upon them. A result without an alert is in the PACS and in
the results folder as well; a second copy of it only makes people doubt what they see."""

MOST_COPIES: Final = 3
"""Copies of one mail at most: a server that takes messages and never answers must not fill a mailbox."""


def next_step(receipt: MailReceipt | None, kind: MailKind) -> NextStep:
    """Decide for one recipient of a mail of this kind."""
    if receipt is None or (receipt.state is MailReceiptState.REFUSED and receipt.copies == 0):
        return NextStep.SEND
    if receipt.state in (MailReceiptState.SENDING, MailReceiptState.REFUSED):
        # of a mail whose last copy was refused an earlier copy may have arrived
        return NextStep.REPEAT if kind in MUST_ARRIVE and receipt.copies < MOST_COPIES else NextStep.GIVE_UP
    return NextStep.LEAVE
