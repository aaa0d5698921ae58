"""The upper layer byte by byte: a client that sends whatever a test wants, and reads PDUs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
ASSOCIATE_AC, ASSOCIATE_RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7
CLOSED = (0, b"")
"""What `RawPeer.read` gives where the listener has closed the connection."""


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU; `length` is what it says of its length."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def item(kind: int, value: bytes, length: int | None = None) -> bytes:
    """An item of an A-ASSOCIATE-RQ."""
    return struct.pack(">BBH", kind, 0, len(value) if length is None else length) + value


def context(number: int = 1, sop_class: str = CTImageStorage, syntaxes: Sequence[str] = (ExplicitVRLittleEndian,)) -> bytes:
    """A presentation context item."""
    parts = item(0x30, sop_class.encode()) + b"".join(item(0x40, s.encode()) for s in syntaxes)
    return item(0x20, bytes((number, 0, 0, 0)) + parts)


def associate_rq(
    contexts: bytes | None = None,
    user: bytes | None = None,
    *,
    called: bytes = b"COREWATCH",
    calling: bytes = b"RAW",
    version: int = 1,
    application: bytes = APPLICATION_CONTEXT,
) -> bytes:
    """An A-ASSOCIATE-RQ."""
    fixed = struct.pack(">HH16s16s32s", version, 0, called.ljust(16), calling.ljust(16), bytes(32))
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4") if user is None else user
    return pdu(1, fixed + item(0x10, application) + (context() if contexts is None else contexts) + item(0x50, user))


def pdv(data: bytes, control: int, number: int = 1, length: int | None = None) -> bytes:
    """A Presentation Data Value; control: 1 command, 2 last."""
    return struct.pack(">LBB", len(data) + 2 if length is None else length, number, control) + data


def command(elements: Mapping[int, bytes]) -> bytes:
    """A command set, elements as they are given."""
    return b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements.items())


def store_command(instance: bytes, sop_class: str = CTImageStorage, /, **changes: bytes | None) -> bytes:
    """The command set of a C-STORE-RQ; changes by name, None leaves an element out."""
    elements: dict[str, tuple[int, bytes]] = {
        "sop_class": (0x0002, sop_class.encode()),
        "field": (0x0100, b"\x01\x00"),
        "message": (0x0110, b"\x07\x00"),
        "data_set": (0x0800, b"\x00\x00"),
        "instance": (0x1000, instance),
    }
    wanted = {name: changes.get(name, value) for name, (_, value) in elements.items()}
    return command({elements[name][0]: value for name, value in wanted.items() if value is not None})


class RawPeer:
    """A connection to the listener."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def send(self, *data: bytes) -> None:
        """Send; that the listener has closed already is no fault of the test."""
        try:
            self.sock.sendall(b"".join(data))
        except (BrokenPipeError, ConnectionResetError):
            return

    def read(self) -> tuple[int, bytes]:
        """Type and body of the next PDU, or `CLOSED`."""
        try:
            header = self._file.read(6)
            if len(header) < 6:
                return CLOSED
            kind, _, length = struct.unpack(">BBL", header)
            return kind, self._file.read(length)
        except ConnectionResetError:
            return CLOSED

    def status(self) -> int:
        """Status of the next response."""
        kind, body = self.read()
        assert kind == DATA, f"a PDU of type {kind} instead of a response"
        at = body.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
        return int.from_bytes(body[at : at + 2], "little")

    def associate(self) -> None:
        """Have an association with CT Image Storage in context 1."""
        self.send(associate_rq())
        assert self.read()[0] == ASSOCIATE_AC

    def shut(self) -> None:
        """Send nothing more; that the connection is closed already is no fault of the test."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def finish(self) -> list[int]:
        """Send nothing more, and read to the end: the types of the PDUs that were received."""
        self.shut()
        kinds = []
        while (received := self.read()) != CLOSED:
            kinds.append(received[0])
        return kinds


@contextmanager
def raw_peer(port: int, timeout: float = 20.0) -> Iterator[RawPeer]:
    """A connection to a port of loopback."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        peer = RawPeer(sock)
        try:
            yield peer
        finally:
            peer._file.close()
