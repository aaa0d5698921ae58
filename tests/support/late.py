"""A requestor that comes late: its peer has answered, and the connection is closed, before it looks whether it is connected."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pynetdicom.transport import AssociationSocket

from tests.support.net import wait_for


class _LateWaker(threading.Event):
    """What pynetdicom's requestor waits for until it is connected; it goes on only when the connection is closed again."""

    def __init__(self, connection: AssociationSocket) -> None:
        super().__init__()
        self._connection = connection

    def wait(self, timeout: float | None = None) -> bool:
        passed = super().wait(timeout)
        wait_for("the end of the connection", lambda: self._connection.socket is None, every=0.001)
        return passed


def wake_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every requestor that is made from here on wake up late, as on a busy machine. For requests that are rejected."""
    initialise = AssociationSocket.__init__

    def initialise_late(connection: AssociationSocket, *arguments: Any, **keywords: Any) -> None:
        initialise(connection, *arguments, **keywords)
        if not connection._is_connected:
            connection._ready = _LateWaker(connection)

    monkeypatch.setattr(AssociationSocket, "__init__", initialise_late)
