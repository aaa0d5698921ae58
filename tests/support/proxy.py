"""A man in the middle on loopback: sees every byte between a program and its peer, may change it, cut it or shoot the program."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

See = Callable[["Passage", bytes], bytes]
"""Gets what one side said, gives what the other side hears."""


class Cut(Exception):
    """Break the connection off on both sides."""


def as_it_is(_passage: Passage, data: bytes) -> bytes:
    return data


@dataclass
class Passage:
    """One connection through the proxy."""

    number: int
    client: socket.socket
    server: socket.socket
    said: bytearray = field(default_factory=bytearray)
    """What the client has said since the server's last answer."""

    def client_pid(self) -> int:
        """Process at the client's end."""
        port = self.client.getpeername()[1]
        for connection in psutil.net_connections("tcp4"):
            if connection.laddr and connection.laddr.port == port and connection.pid not in (None, os.getpid()):
                return int(connection.pid)
        raise LookupError("the client's process is not to be found")

    def shoot(self) -> int:
        """kill -9 the client, and hear nothing more of it."""
        pid = self.client_pid()
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.wait(0.5)  # a child of another process stays a zombie until that one looks
        return pid


class Proxy:
    """Listens on a free port and passes everything on."""

    def __init__(self, to: int, from_client: See = as_it_is, from_server: See = as_it_is) -> None:
        self._to = to
        self.from_client, self.from_server = from_client, from_server
        self.transfers: list[Passage] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            transfer = Passage(len(self.transfers), client, server)
            self.transfers.append(transfer)
            for source, target, see in (
                (client, server, lambda p, d: self.from_client(p, d)),
                (server, client, lambda p, d: self.from_server(p, d)),
            ):
                thread = threading.Thread(target=self._pass, args=(transfer, source, target, see), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, transfer: Passage, source: socket.socket, target: socket.socket, see: See) -> None:
        try:
            while data := source.recv(65536):
                if source is transfer.client:
                    transfer.said += data
                heard = see(transfer, data)
                if source is transfer.server:
                    transfer.said.clear()
                target.sendall(heard)
        except (OSError, Cut):
            for end in (transfer.client, transfer.server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        else:
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transfer in self.transfers:
            for end in (transfer.client, transfer.server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def proxy(to: int, from_client: See = as_it_is, from_server: See = as_it_is) -> Iterator[Proxy]:
    running = Proxy(to, from_client, from_server)
    try:
        yield running
    finally:
        running.close()
