"""SMTP submission (RFC 6409); its errors are sorted by what happens next: retry, or ask an operator."""

from __future__ import annotations

import base64
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from enum import Enum, auto
from typing import Final

from config.delivery import EmailSettings
from corewatch.errors import NoAnswer, OperatorNeeded, RetryLater

END_OF_DATA_LIMIT_S: Final = 120.0
"""Shortest wait for the answer to a whole message: a server that is still busy with the message would deliver it all the same
(RFC 1047; RFC 5321, 4.5.3.2.6)."""

_OK: Final = 250
_TAKEN: Final = (250, 251)
_SEND_CONTENT: Final = 354
_CLOSING: Final = 421
_NOT_ALLOWED: Final = 553
_LOGGED_IN: Final = 235
_LOGGED_IN_BEFORE: Final = 503

_BY_PASSWORD: Final = frozenset({"PLAIN", "LOGIN", "CRAM-MD5"})
"""Mechanisms of SMTP AUTH (RFC 4954) that take user and password."""

_BY_TOKEN: Final = frozenset({"XOAUTH2", "OAUTHBEARER"})
"""Mechanisms that take a token of OAuth (RFC 7628)."""


class RefusedStep(Enum):
    """What the server refused."""

    RECIPIENT = auto()
    """The recipient: the answer to RCPT."""
    ENVELOPE = auto()
    """The mail before its content: the answer to MAIL or DATA."""
    CONTENT = auto()
    """The whole message: the answer to its end."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One recipient that the server refused."""

    recipient: str
    code: int
    words: str
    step: RefusedStep = RefusedStep.RECIPIENT

    @property
    def temporary(self) -> bool:
        """Whether a retry can succeed: a code 4yz (RFC 5321, 4.2.1)."""
        return 400 <= self.code < 500


@contextmanager
def session(settings: EmailSettings) -> Iterator[smtplib.SMTP]:
    """A connection to the mail server, secured and logged in as the settings say.

    Raises
    ------
    RetryLater, OperatorNeeded
        For errors here and for SMTP errors in the body.
    """
    connection: smtplib.SMTP | None = None
    try:
        connection = _connect(settings)
        yield connection
    except smtplib.SMTPAuthenticationError as error:
        raise _by_code(error.smtp_code, f"{settings.server} did not accept our user and password", "check them") from None
    except smtplib.SMTPNotSupportedError as error:
        raise OperatorNeeded(
            f"{settings.server} lacks what the mail needs ({error})", "change deliver.email (security, user or addresses)"
        ) from None
    except smtplib.SMTPResponseException as error:
        raise _by_code(
            error.smtp_code, f"{settings.server} answered {error.smtp_code} {_text(error.smtp_error)}", "look at its log"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise OperatorNeeded(
            f"the certificate of {settings.server} cannot be trusted ({error.verify_message})", "check its authority"
        ) from None
    except ssl.SSLError as error:
        raise OperatorNeeded(f"no TLS with {settings.server} ({error.reason})", "check deliver.email.security and port") from None
    except (smtplib.SMTPException, OSError) as error:
        raise NoAnswer(
            f"{settings.server} cannot be reached or broke off ({type(error).__name__})", "check host, port and firewall"
        ) from None
    finally:
        if connection is not None:
            with suppress(smtplib.SMTPException, OSError):
                connection.quit()
            connection.close()


def try_recipients(connection: smtplib.SMTP, sender: str, recipients: Sequence[str]) -> tuple[Refusal, ...]:
    """Name sender and recipients as for a mail, and take that back; returns what the server refuses.

    Raises
    ------
    smtplib.SMTPException, OSError
        The connection broke off.
    """
    connection.ehlo_or_helo_if_needed()
    refused = list(_unreachable(connection, sender, recipients))
    reachable = [recipient for recipient in recipients if all(recipient != one.recipient for one in refused)]
    international = not all(address.isascii() for address in (sender, *reachable))
    code, words = connection.mail(sender, ["SMTPUTF8", "BODY=8BITMIME"] if international else [])
    if code != _OK:
        return (Refusal(sender, code, _text(words), RefusedStep.ENVELOPE),)
    for recipient in reachable:
        code, words = connection.rcpt(recipient)
        if code not in _TAKEN:
            refused.append(Refusal(recipient, code, _text(words)))
    _reset(connection)
    return tuple(refused)


def submit(
    connection: smtplib.SMTP,
    message: EmailMessage,
    sender: str,
    recipients: Sequence[str],
    begin: Callable[[tuple[str, ...]], None] = lambda _taken: None,
) -> tuple[Refusal, ...]:
    """Submit one message; returns the refused recipients, some or all.

    Parameters
    ----------
    begin
        Called with the accepted recipients when the server is ready for the content (354), before its first byte is sent. Where it
        raises, the content is not sent.

    Raises
    ------
    smtplib.SMTPException, OSError
        The connection broke off. After `begin` was called it is not known whether the server has the message.
    """
    connection.ehlo_or_helo_if_needed()
    refused, taken = list(_unreachable(connection, sender, recipients)), list[str]()
    reachable = [recipient for recipient in recipients if all(recipient != one.recipient for one in refused)]
    if refused:
        message.replace_header("To", ", ".join(reachable))
    if not reachable:
        return tuple(refused)
    international = not all(address.isascii() for address in (sender, *reachable))
    content = _flatten(message, international=international)
    options = ["SMTPUTF8", "BODY=8BITMIME"] if international else []
    if connection.has_extn("size"):  # a server that declares its limit refuses before the content is sent (RFC 1870)
        options.append(f"SIZE={len(content)}")
    code, words = connection.mail(sender, options)
    if code != _OK:
        return (*refused, *_refused_all(connection, reachable, code, words, RefusedStep.ENVELOPE))
    for recipient in reachable:
        code, words = connection.rcpt(recipient)
        if code in _TAKEN:
            taken.append(recipient)
        else:
            refused.append(Refusal(recipient, code, _text(words)))
    if not taken:
        _reset(connection)
        return tuple(refused)
    code, words = connection.docmd("DATA")
    if code != _SEND_CONTENT:
        return (*refused, *_refused_all(connection, taken, code, words, RefusedStep.ENVELOPE))
    try:
        begin(tuple(taken))
    except BaseException:
        connection.close()  # an unfinished message is discarded (RFC 5321, 4.1.1.4)
        raise
    if connection.sock is not None:
        connection.sock.settimeout(max(END_OF_DATA_LIMIT_S, connection.timeout))
    connection.send(_with_end(content))
    code, words = connection.getreply()
    if code != _OK:
        return (*refused, *_refused_all(connection, taken, code, words, RefusedStep.CONTENT))
    return tuple(refused)


def exceeds_limit(connection: smtplib.SMTP, message: EmailMessage) -> str:
    """Why the server would refuse a message of this size; empty where it has declared no limit, or a larger one (RFC 1870)."""
    connection.ehlo_or_helo_if_needed()
    declared = str(connection.esmtp_features.get("size", "")).strip()
    limit, size = int(declared) if declared.isdecimal() else 0, len(_flatten(message, international=False))
    return f"it takes {limit} bytes at most, the mail has {size}" if 0 < limit < size else ""


def _refused_all(
    connection: smtplib.SMTP, recipients: Sequence[str], code: int, words: bytes | str, step: RefusedStep
) -> tuple[Refusal, ...]:
    if code == _CLOSING:
        connection.close()
    else:
        _reset(connection)
    return tuple(Refusal(recipient, code, _text(words), step) for recipient in recipients)


def _reset(connection: smtplib.SMTP) -> None:
    """Reset the session (RSET). A server that refuses and then hangs up has refused all the same."""
    try:
        connection.rset()
    except (smtplib.SMTPException, OSError):
        connection.close()


def is_open(connection: smtplib.SMTP) -> bool:
    """Whether another message may be submitted over it."""
    return connection.sock is not None


def _unreachable(connection: smtplib.SMTP, sender: str, recipients: Sequence[str]) -> Iterator[Refusal]:
    """Recipients that this server cannot reach: addresses beyond ASCII need SMTPUTF8 (RFC 6531)."""
    if connection.has_extn("smtputf8"):
        return
    if not sender.isascii():
        raise smtplib.SMTPNotSupportedError("the sender's address is not ASCII, and the server does not offer SMTPUTF8")
    for recipient in recipients:
        if not recipient.isascii():
            yield Refusal(recipient, _NOT_ALLOWED, "the address is not ASCII, and the server does not offer SMTPUTF8")


def _flatten(message: EmailMessage, *, international: bool) -> bytes:
    """The message as it is sent, without its end."""
    return message.as_bytes(policy=SMTPUTF8 if international else SMTP)


def _with_end(content: bytes) -> bytes:
    """The content with its leading dots doubled, and the end of the data (RFC 5321, 4.5.2)."""
    content = re.sub(rb"(?m)^\.", b"..", content)
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")


def _connect(settings: EmailSettings) -> smtplib.SMTP:
    connection: smtplib.SMTP
    if settings.security == "tls":
        connection = smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.timeout_s, context=_context(settings))
    else:
        connection = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
    try:
        if settings.security == "starttls":
            connection.starttls(context=_context(settings))
        if settings.user is not None:
            _login(connection, settings, settings.user)
    except BaseException:
        connection.close()
        raise
    return connection


def _login(connection: smtplib.SMTP, settings: EmailSettings, user: str) -> None:
    """Log in with user and password; those with characters outside of ASCII by PLAIN in UTF-8 (RFC 4616)."""
    password = "" if settings.password is None else settings.password.get_secret_value()
    connection.ehlo_or_helo_if_needed()
    offered = set(str(connection.esmtp_features.get("auth", "")).upper().split())
    if offered and not offered & _BY_PASSWORD:
        oauth = offered <= _BY_TOKEN
        raise OperatorNeeded(
            f"{settings.server} offers no login with user and password, only {', '.join(sorted(offered))}"
            + (": it wants OAuth, which corewatch does not do" if oauth else ""),
            "use a mail server of the hospital that accepts corewatch's address or a password (an SMTP relay)",
        )
    if user.isascii() and password.isascii():
        connection.login(user, password)
        return
    if "PLAIN" not in offered:
        raise OperatorNeeded(
            f"deliver.email.user or password has characters outside of ASCII, which {settings.server} takes by AUTH PLAIN only, "
            "and does not offer",
            "choose a password of ASCII characters",
        )
    answer = base64.b64encode(f"\0{user}\0{password}".encode()).decode("ascii")
    code, words = connection.docmd("AUTH", f"PLAIN {answer}")
    if code not in {_LOGGED_IN, _LOGGED_IN_BEFORE}:
        raise smtplib.SMTPAuthenticationError(code, words)


def _context(settings: EmailSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if settings.authority is None else str(settings.authority))


def _by_code(code: int, words: str, remedy: str) -> RetryLater | OperatorNeeded:
    return RetryLater(words, "it says that this will pass") if 400 <= code < 500 else OperatorNeeded(words, remedy)


def _text(words: bytes | str) -> str:
    return words.decode("ascii", "replace") if isinstance(words, bytes) else words
