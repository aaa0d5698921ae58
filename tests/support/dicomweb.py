"""A DICOMweb server on loopback that answers as a script says."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

from pydicom import dcmread

Failures = dict[str, int]


@dataclass
class Archive:
    """What the server got."""

    port: int = 0
    received: dict[str, bytes] = field(default_factory=dict)
    """SOP Instance UID -> whole file."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"


def store_response(stored: Failures, failed: Failures) -> bytes:
    """A Store Instances Response; a stored instance with another reason than 0 has a warning."""

    def items(reasons: Failures, tag: str) -> list[dict[str, object]]:
        found = []
        for uid, reason in reasons.items():
            item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}}
            if reason:
                item[tag] = {"vr": "US", "Value": [reason]}
            found.append(item)
        return found

    answer = {}
    if stored:
        answer["00081199"] = {"vr": "SQ", "Value": items(stored, "00081196")}
    if failed:
        answer["00081198"] = {"vr": "SQ", "Value": items(failed, "00081197")}
    return json.dumps(answer).encode()


@contextmanager
def dicomweb_server(
    status: Callable[[int], int] = lambda number: 0x0000,
    *,
    http_status: int | None = None,
    body: bytes | None = None,
    content_type: str = "application/dicom+json",
    headers: dict[str, str] | None = None,
    password: str | None = None,
    context: ssl.SSLContext | None = None,
    break_off: bool = False,
) -> Iterator[Archive]:
    """`status` gives the reason for the n-th instance, from 1 on; `http_status` and `body` stand in for a proper answer."""
    archive = Archive()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(b"[]", 200)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if break_off:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            stored: Failures = {}
            failed: Failures = {}
            for part in parts(self.headers["Content-Type"], data):
                uid = str(dcmread(BytesIO(part), stop_before_pixels=True).SOPInstanceUID)
                reason = status(len(stored) + len(failed) + 1)
                if reason == 0 or 0xB000 <= reason <= 0xBFFF:
                    stored[uid] = reason
                    if http_status is None:
                        archive.received[uid] = part
                else:
                    failed[uid] = reason
            self.answer(store_response(stored, failed), 200 if not failed else 202 if stored else 409)

        def answer(self, proper: bytes, code: int) -> None:
            archive.requests.append((self.command, self.path, dict(self.headers)))
            if password is not None and self.headers.get("Authorization") != password:
                code, proper = 401, b""
            elif http_status is not None:
                code, proper = http_status, b""
            self.send_response(code)
            content = proper if body is None else body
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    archive.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def parts(content_type: str, data: bytes) -> list[bytes]:
    """Bodies of a multipart message, taken apart by the standard library."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + data)
    assert message.get_content_type() == "multipart/related"
    found = []
    for part in message.iter_parts():
        assert part.get_content_type() == "application/dicom"
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found.append(payload)
    return found
