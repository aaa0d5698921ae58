"""Stand-ins for the hospital's systems: a PACS (Storage SCP) and a mail server that keep what they receive as files."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any, Self

from aiosmtpd.controller import Controller
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

LOOPBACK = "127.0.0.1"
PACS_AE_TITLE = "DEMOPACS"
_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1


def free_port() -> int:
    """TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class PacsStandIn:
    """Storage and Verification SCP that keeps every received object as a file in `folder`. Use it in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._received: list[Path] = []
        self._server: Any = None

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def received(self) -> list[Path]:
        """Files of the objects received, each once."""
        with self._lock:
            return list(self._received)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        entity = AE(PACS_AE_TITLE)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(Verification)
        self._server = entity.start_server((LOOPBACK, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._on_store)])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _on_store(self, event: Any) -> int:
        path = self.folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        try:
            path.write_bytes(event.encoded_dataset())
        except OSError:
            return _OUT_OF_RESOURCES
        with self._lock:
            if path not in self._received:
                self._received.append(path)
        return _SUCCESS


class MailSink:
    """Mail server that keeps every message as a file in `folder`. Use it in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._received: list[Path] = []
        self._controller = Controller(self, hostname=LOOPBACK, port=self.port)

    @property
    def received(self) -> list[Path]:
        """Files of the messages received."""
        return list(self._received)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        """Called by aiosmtpd with a whole message; returns the reply to the sender (RFC 5321 4.2)."""
        path = self.folder / f"{len(self._received) + 1:03d}.eml"
        try:
            path.write_bytes(envelope.original_content)
        except OSError:
            return "452 4.3.1 insufficient storage"
        self._received.append(path)
        return "250 2.0.0 kept"
