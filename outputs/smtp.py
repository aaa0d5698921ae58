"""SMTP submission (RFC 6409) with the faults sorted by what happens next."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

from corewatch.errors import OperatorNeeded, RetryLater


@dataclass(frozen=True, slots=True)
class MailServer:
    """A submission server and how to speak to it."""

    host: str
    port: int = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 20.0
    authority: Path | None = None
    """PEM of the authority that the server's certificate must come from; None: the system's."""

    def __str__(self) -> str:
        return f"mail server {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One recipient that the server did not take."""

    recipient: str
    code: int
    words: str

    @property
    def temporary(self) -> bool:
        """4yz, RFC 5321 4.2.1."""
        return 400 <= self.code < 500


@contextmanager
def session(server: MailServer) -> Iterator[smtplib.SMTP]:
    """A connection, secured and logged in as asked for.

    Raises
    ------
    RetryLater, OperatorNeeded
        For faults here and for SMTP faults in the body.
    """
    connection: smtplib.SMTP | None = None
    try:
        connection = _connect(server)
        yield connection
    except smtplib.SMTPAuthenticationError as error:
        raise _by_code(error.smtp_code, f"{server} did not accept our user and password", "check them") from None
    except smtplib.SMTPNotSupportedError as error:
        raise OperatorNeeded(
            f"{server} lacks what the mail needs ({error}); change deliver.email (security, user or addresses)"
        ) from None
    except smtplib.SMTPResponseException as error:
        raise _by_code(
            error.smtp_code, f"{server} answered {error.smtp_code} {_text(error.smtp_error)}", "look at its log"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise OperatorNeeded(
            f"the certificate of {server} cannot be trusted ({error.verify_message}); check its authority"
        ) from None
    except ssl.SSLError as error:
        raise OperatorNeeded(f"no TLS with {server} ({error.reason}); check deliver.email.security and port") from None
    except (smtplib.SMTPException, OSError) as error:
        raise RetryLater(
            f"{server} cannot be reached or broke off ({type(error).__name__}); check host, port and firewall"
        ) from None
    finally:
        if connection is not None:
            with suppress(smtplib.SMTPException, OSError):
                connection.quit()
            connection.close()


def submit(connection: smtplib.SMTP, message: EmailMessage, sender: str, recipients: Sequence[str]) -> tuple[Refusal, ...]:
    """Submit one message; the recipients that were refused, all of them or some."""
    try:
        refused = connection.send_message(message, from_addr=sender, to_addrs=list(recipients))
    except smtplib.SMTPRecipientsRefused as error:
        refused = error.recipients
    return tuple(Refusal(recipient, code, _text(words)) for recipient, (code, words) in sorted(refused.items()))


def _connect(server: MailServer) -> smtplib.SMTP:
    context = ssl.create_default_context(cafile=None if server.authority is None else str(server.authority))
    connection: smtplib.SMTP
    if server.security == "tls":
        connection = smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout_s, context=context)
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
    try:
        if server.security == "starttls":
            connection.starttls(context=context)
        if server.user is not None:
            connection.login(server.user, server.password or "")
    except BaseException:
        connection.close()
        raise
    return connection


def _by_code(code: int, words: str, remedy: str) -> RetryLater | OperatorNeeded:
    return RetryLater(f"{words}; it says that this will pass") if 400 <= code < 500 else OperatorNeeded(f"{words}; {remedy}")


def _text(words: bytes | str) -> str:
    return words.decode("ascii", "replace") if isinstance(words, bytes) else words
