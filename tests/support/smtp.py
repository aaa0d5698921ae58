"""A mail server to submit to: aiosmtpd on loopback, with every fault that the suites need."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "corewatch", "s3cret"


@dataclass
class Mailbox:
    """What the server got and how it is to behave."""

    port: int = 0
    mails: list[tuple[tuple[str, ...], EmailMessage]] = field(default_factory=list)
    """(recipients of the envelope, message)"""
    refuse: dict[str, str] = field(default_factory=dict)
    """Recipient -> reply."""
    data_reply: str | None = None
    mail_reply: str | None = None
    judge: Callable[[EmailMessage], str | None] = lambda _message: None
    """Message -> reply that refuses it, if it is to be refused."""
    chance: Callable[[str], str | None] = lambda _what: None
    """Command -> reply that refuses it, if it is to be refused."""
    encrypted: list[bool] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of every message whose content was sent, refused ones too."""

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.mail_reply is not None:
            return self.mail_reply
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if (reply := self.refuse.get(address) or self.chance("RCPT")) is not None:
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if (reply := self.data_reply or self.chance("DATA")) is not None:
            return reply
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.sizes.append(len(content))
        if (reply := self.judge(message)) is not None:
            return reply
        self.mails.append((tuple(envelope.rcpt_tos), message))
        self.encrypted.append(session.ssl is not None)
        return "250 OK"


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=good)


class _FreePortController(Controller):
    """Port 0 becomes the port that the system chose, before the controller's own check connects to it."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def smtp_server(
    *, tls: ssl.SSLContext | None = None, implicit: bool = False, auth: bool = False, size: int | None = None
) -> Iterator[Mailbox]:
    """`tls` offers STARTTLS, or wraps the port where `implicit`; `auth` asks for a user; `size` is the declared limit in bytes."""
    mailbox = Mailbox()
    options: dict[str, Any] = {"auth_required": auth, "auth_require_tls": False}
    if size is not None:
        options["data_size_limit"] = size
    if auth:
        options["authenticator"] = _authenticate
    if tls is not None and not implicit:
        options |= {"tls_context": tls, "require_starttls": True}
    controller = _FreePortController(mailbox, hostname="127.0.0.1", port=0, ssl_context=tls if implicit else None, **options)
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()
