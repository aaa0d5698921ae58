"""Webhooks to a real HTTP server on loopback: signed as the receiver expects, retried, and never led astray."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.delivery import WebhookSettings
from corewatch.errors import OperatorNeeded, RetryLater
from outputs.destinations.webhook import WebhookDestination, WebhookNotices
from tests.support.results import NOW, PATIENT_ID, clock, failed, make_case, not_analysed
from tests.support.storage import Certificates, make_certificates

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123").decode()


@dataclass
class Receiver:
    port: int = 0
    status: int = 204
    location: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    held = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            held.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            held.paths.append(self.path)
            self.send_response(held.status)
            if held.location:
                self.send_header("Location", held.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.send_response(405)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    held.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def webhook_settings(port: int, scheme: str = "http", **more: Any) -> WebhookSettings:
    return WebhookSettings.model_validate({"url": f"{scheme}://127.0.0.1:{port}/hook", "secret": SECRET, **more})


def to(port: int, scheme: str = "http", **more: Any) -> WebhookDestination:
    return WebhookDestination(webhook_settings(port, scheme, **more), clock)


def notices(port: int, **more: Any) -> WebhookNotices:
    return WebhookNotices(webhook_settings(port, **more), clock)


def verified(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """As the reference receivers do (standardwebhooks, `Webhook.verify`)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(f"v1,{expected}", one) for one in headers["webhook-signature"].split(" "))


def test_signed_and_free_of_patient_data(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    with receiver() as hook:
        to(hook.port).check()
        delivered = to(hook.port).deliver(case)
        to(hook.port).deliver(case)
    (headers, body), (again, _) = hook.got
    assert verified(headers, body, SECRET)
    assert not verified(headers, body + b" ", SECRET)
    assert not verified({**headers, "webhook-timestamp": "1"}, body, SECRET)
    assert int(headers["webhook-timestamp"]) == int(NOW.timestamp())
    assert headers["webhook-id"] == again["webhook-id"] in delivered.detail
    message = json.loads(body)
    assert message["type"] == "case.result"
    assert (message["data"]["core_ml"], message["data"]["side"], message["data"]["alert"]) == (34.2, "left", True)
    assert "Research use only" in message["data"]["notice"]
    for secret in (PATIENT_ID, "Jörg", "1.2.826.0.1", "ACC00042"):
        assert secret not in body.decode()


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, RetryLater), (503, RetryLater), (429, RetryLater), (408, RetryLater),
     (400, OperatorNeeded), (401, OperatorNeeded), (410, OperatorNeeded)],
)  # fmt: skip
def test_answers_are_sorted(status: int, error: type[Exception], tmp_path: Path) -> None:
    with receiver() as hook:
        hook.status = status
        with pytest.raises(error, match=str(status)):
            to(hook.port).deliver(make_case(tmp_path))


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    with receiver() as hook, receiver() as inner:
        hook.status, hook.location = 307, f"http://127.0.0.1:{inner.port}/admin"
        with pytest.raises(OperatorNeeded, match="redirect"):
            to(hook.port).deliver(make_case(tmp_path))
    assert inner.got == []


def test_a_proxy_of_the_environment_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as hook, receiver() as other:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{other.port}")
        monkeypatch.setenv("no_proxy", "")
        to(hook.port).deliver(make_case(tmp_path))
    assert hook.paths == ["/hook"]
    assert other.got == []


def test_tls_is_verified(tmp_path: Path) -> None:
    certificates: Certificates = make_certificates(tmp_path / "pki")
    case = make_case(tmp_path / "case")
    with receiver(certificates.server_context(mutual=False)) as hook:
        to(hook.port, "https", authority=certificates.authority).deliver(case)
        with pytest.raises(OperatorNeeded, match=r"certificate .* cannot be trusted"):
            to(hook.port, "https").deliver(case)
        with pytest.raises(OperatorNeeded, match="cannot be trusted"):
            to(hook.port, "https").check()
    assert len(hook.got) == 1
    with pytest.raises(RetryLater, match="cannot be reached"):
        to(hook.port).deliver(case)


def test_what_is_told(tmp_path: Path) -> None:
    calm = make_case(tmp_path, core_ml=3.0, alert=False)
    assert to(1).skip_reason(calm) is not None
    assert to(1, when="always").skip_reason(calm) is None
    assert to(1, when="never").skip_reason(make_case(tmp_path)) is not None
    for case in (not_analysed(calm), failed(calm)):
        assert to(1, not_analysed=True).skip_reason(case) is not None, "the notices tell it"
        assert notices(1).skip_reason(case) is not None
        assert notices(1, not_analysed=True).skip_reason(case) is None
    assert notices(1, not_analysed=True).skip_reason(calm) is not None


@pytest.mark.parametrize(
    "url", ["http://hook.example/x", "ftp://hook.example", "https://", "https://user:pw@hook.example/", "file:///etc/passwd"]
)
def test_unsafe_addresses_are_no_settings(url: str) -> None:
    with pytest.raises(ValidationError, match="https://"):
        WebhookSettings.model_validate({"url": url, "secret": "x" * 16})


def test_short_secrets_are_no_settings_and_none_is_shown() -> None:
    for secret in ("short", "whsec_!!!!!!!!!!!!!!!!!!!!"):
        with pytest.raises(ValidationError):
            WebhookSettings.model_validate({"url": "https://hook.example/", "secret": secret})
    assert "0123456789" not in repr(WebhookSettings.model_validate({"url": "https://hook.example/", "secret": "0123456789012345"}))
