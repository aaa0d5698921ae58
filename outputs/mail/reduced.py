"""The same mail as plain text without pictures, for a mail server that refuses its size or its content.

A refused message was delivered to nobody, so that sending the reduced one gives no recipient two.
"""

from __future__ import annotations

import re
from email.message import EmailMessage
from typing import Final

from outputs.mail.smtp import Refusal, RefusedStep

NOTE: Final = "This mail has no picture: the mail server refused it with the summary page ({why})."
_NOTE_OF_WORDS: Final = "This mail is plain text: the mail server refused it otherwise ({why})."

_TOO_LARGE: Final = 552
"""Message size exceeds a fixed maximum (RFC 1870, 6.1), or the mailbox is full (RFC 5321, 4.2.3)."""

_LENGTH_CODES: Final = re.compile(r"\b[45]\.(?:3\.4|2\.[23])\b")
"""Enhanced status codes (RFC 3463): too big for the system, longer than the mailbox allows, mailbox full."""

_BODY_HEADERS: Final = ("content-", "mime-version")


def reduction_may_help(refusal: Refusal) -> bool:
    """Whether a shorter mail in plain text may be accepted where this refusal was the answer.

    That is so where the size is refused, and where the content is refused for good: filters dislike HTML and attachments. An
    address that is refused stays refused.

    >>> reduction_may_help(Refusal("a@b.example", 554, "5.6.0 attachment not allowed", RefusedStep.CONTENT))
    True
    >>> reduction_may_help(Refusal("a@b.example", 550, "5.1.1 no such user", RefusedStep.RECIPIENT))
    False
    """
    if refusal.code == _TOO_LARGE or _LENGTH_CODES.match(refusal.words):
        return True
    return refusal.step is RefusedStep.CONTENT and not refusal.temporary


def is_reducible(message: EmailMessage) -> bool:
    """Whether the message has more than plain text."""
    return message.is_multipart()


def reduced(message: EmailMessage, why: str) -> EmailMessage:
    """The message with the same headers and only its plain text, which says why."""
    small = EmailMessage(policy=message.policy)
    for name, value in message.items():
        if not name.lower().startswith(_BODY_HEADERS):
            small[name] = value
    body = message.get_body(("plain",))
    words = "" if body is None else body.get_content()
    has_picture = any(part.get_content_maintype() == "image" for part in message.walk())
    note = (NOTE if has_picture else _NOTE_OF_WORDS).format(why=why)
    small.set_content(f"{words.rstrip()}\n\n{note}\n")
    return small
