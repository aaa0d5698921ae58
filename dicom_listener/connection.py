"""TCP connection of an association: reads PDUs with limits on their length and on time (PS3.8 9.1)."""

from __future__ import annotations

import socket
import ssl
import time
from typing import NamedTuple

from dicom_listener.pdu import HEADER, AbortReason, PduType, PeerFault

LONGEST_REQUEST = 262_144
"""Bytes of the longest PDU other than P-DATA-TF: 128 contexts with forty transfer syntaxes each, and a Kerberos ticket."""

_TYPES = frozenset(PduType)


class Pdu(NamedTuple):
    """One PDU without its header. `body` is valid until the next read."""

    kind: PduType
    body: memoryview


class Connection:
    """One accepted TCP connection.

    Reads what is there, up to two PDUs, into one buffer that lasts as long as the connection: no byte of an instance is copied
    between the kernel and the file, and a peer cannot make the buffer grow. Acknowledges what it reads at once: a sender with
    Nagle's algorithm holds back the end of every instance until then, 40 ms.

    Parameters
    ----------
    longest_data
        Bytes of the longest P-DATA-TF, as negotiated.
    timeout_s
        For the TLS handshake, and until `set_timeout`.
    """

    def __init__(self, sock: socket.socket, longest_data: int, timeout_s: float) -> None:
        self._sock = sock
        self._longest_data = longest_data
        self._buffer = bytearray(2 * (max(longest_data, LONGEST_REQUEST) + HEADER.size))
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._framing_lost = False
        self._timeout_s = timeout_s
        self._artim_deadline: float | None = None
        sock.settimeout(timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def set_timeout(self, seconds: float) -> None:
        """Allow this long for a PDU to begin, and then for the rest of it."""
        self._timeout_s = seconds
        self._sock.settimeout(seconds)

    def start_artim(self, seconds: float) -> None:
        """Start or restart the ARTIM timer (PS3.8 9.1.5): until it is stopped, all reads together may take this long."""
        self._artim_deadline = time.monotonic() + seconds
        self._sock.settimeout(seconds)

    def stop_artim(self) -> None:
        """Stop the ARTIM timer."""
        self._artim_deadline = None
        self._sock.settimeout(self._timeout_s)

    def handshake(self) -> None:
        """Do the TLS handshake, if this is a TLS connection.

        Raises
        ------
        OSError
            The peer has no certificate of our authority, or no TLS, or takes too long. Nothing can be sent to it then.
        """
        if isinstance(self._sock, ssl.SSLSocket):
            try:
                self._sock.do_handshake()
            except OSError:
                self.interrupt(socket.SHUT_RDWR)  # else the next send would repeat the handshake and its timeout
                raise

    def read(self) -> Pdu | None:
        """The next PDU; None if the peer has closed the connection between two PDUs.

        Raises
        ------
        PeerFault
            Unknown type, or longer than negotiated. The start of the next PDU is then unknown, so that all later reads discard
            what the peer sends until it closes the connection.
        OSError
            The connection broke; TimeoutError: the peer is silent or too slow, or the ARTIM timer expired.
        """
        if self._framing_lost:
            self._discard()
            return None
        if self._start == self._end:
            self._start = self._end = 0
        if not self._fill(HEADER.size):
            return None
        kind, length = HEADER.unpack_from(self._buffer, self._start)
        self._framing_lost = kind not in _TYPES or length > (self._longest_data if kind == PduType.DATA else LONGEST_REQUEST)
        if kind not in _TYPES:
            raise PeerFault("a PDU is of no known type", AbortReason.UNRECOGNISED_PDU)
        if self._framing_lost:
            raise PeerFault("a PDU is longer than was negotiated")
        self._fill(HEADER.size + length)
        start = self._start + HEADER.size
        self._start = start + length
        return Pdu(PduType(kind), self._view[start : self._start])

    def send(self, data: bytes) -> None:
        """Send all of it.

        Raises
        ------
        OSError
            The connection broke, or the peer does not read.
        """
        self._sock.sendall(data)

    def interrupt(self, how: int = socket.SHUT_RD) -> None:
        """End a waiting `read` as if the peer had closed; with `SHUT_RDWR` a `send` too. May be called from any thread."""
        try:
            # not SSLSocket.shutdown, which drops the TLS state while the other thread uses it
            socket.socket.shutdown(self._sock, how)
        except OSError:
            return  # it is closed already

    def close(self) -> None:
        """Close the connection. Does nothing the second time."""
        self._sock.close()

    def _fill(self, count: int) -> bool:
        """Buffer `count` bytes from `_start` on; False if the peer closed before the first of them."""
        if self._start + count > len(self._buffer):
            left = self._end - self._start
            self._view[:left] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, left
        deadline = self._deadline()
        while self._end - self._start < count:
            received = self._receive(self._end, deadline)
            if not received:
                if self._start == self._end:
                    return False
                raise ConnectionError("the connection ended within a PDU")
            self._end += received
        return True

    def _discard(self) -> None:
        deadline = self._deadline()
        while self._receive(0, deadline):
            pass

    def _deadline(self) -> float:
        """Deadline of a read that begins now, in monotonic seconds."""
        if self._artim_deadline is None:
            return time.monotonic() + self._timeout_s
        remaining = self._artim_deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the ARTIM timer expired")
        self._sock.settimeout(remaining)
        return self._artim_deadline

    def _receive(self, position: int, deadline: float) -> int:
        received = self._sock.recv_into(self._view[position:])
        # the kernel resets this option, so that it is set after each read
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if time.monotonic() > deadline:
            raise TimeoutError("the peer is too slow")
        return received
