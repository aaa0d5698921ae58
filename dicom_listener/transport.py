"""The TCP side of an association: reading in large pieces, time limits, TLS."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

from config.section import TlsFiles
from corewatch.errors import ConfigurationError

LONGEST_REQUEST_PDU = 1_048_576
"""Bytes of the longest PDU other than P-DATA that is read: an A-ASSOCIATE-RQ with 128 contexts stays well below."""


def prepare_connection(transport: Any, idle_timeout_s: float, max_pdu_bytes: int) -> None:
    """Set up the connection of a new association, a pynetdicom `AssociationSocket`.

    pynetdicom reads 4096 bytes at a time, without a time limit once a PDU has begun, and leaves Nagle's algorithm on, which
    together with a sender's delayed acknowledgements can cost 40 ms an image.
    """
    sock: socket.socket = transport.socket
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.settimeout(idle_timeout_s)
    transport.recv = PduReader(sock, idle_timeout_s, max(max_pdu_bytes, LONGEST_REQUEST_PDU))


class PduReader:
    """Reads the pieces of one PDU from a socket; stands in for `AssociationSocket.recv`.

    Raises
    ------
    OSError
        When called: the peer stalls within a PDU, or announces one longer than was negotiated. The association then ends.
    """

    def __init__(self, sock: socket.socket, timeout_s: float, longest: int) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._longest = longest

    def __call__(self, count: int) -> bytearray:
        """Read `count` bytes, fewer only where the peer has closed the connection."""
        if count > self._longest:
            raise OSError(f"the peer announced a PDU of {count} bytes, more than the {self._longest} allowed")
        buffer = bytearray(count)
        view = memoryview(buffer)
        read = 0
        deadline = time.monotonic() + self._timeout_s
        while read < count:
            if time.monotonic() > deadline:
                raise TimeoutError("the peer stalled within a PDU")
            received = self._sock.recv_into(view[read:])
            if not received:
                return buffer[:read]
            read += received
        return buffer


class _HandshakeLater(ssl.SSLContext):
    """Leaves the handshake to the association's own thread, so that a silent client does not block the listener."""

    def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return super().wrap_socket(sock, *args, **{**kwargs, "do_handshake_on_connect": False})


def server_tls(files: TlsFiles) -> ssl.SSLContext:
    """TLS for the listener: version 1.2 or later, and the peer must show a certificate of our authority (PS3.15 B.12).

    Raises
    ------
    ConfigurationError
        A file is missing or is not what it should be.
    """
    context = _HandshakeLater(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except OSError as error:
        raise ConfigurationError(
            f"listener.tls: {error.strerror or error}; certificate, key and authority must be PEM files that belong together"
        ) from error
    return context
