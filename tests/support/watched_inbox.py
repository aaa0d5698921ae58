"""A watched folder with its spool, for tests of the inbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.intake import ListenerSettings, WatchedFolder, WatchSettings
from config.settings import Settings
from daemon.watch.inbox import Inbox
from daemon.watch.rejection import RejectedDrop
from tests.support.listener import ct_slice, file_bytes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTLE_S = 2.0
STAMP = "20260102T030405Z-"


class WatchedInbox:
    """An inbox with its watched folder and its spool, under a clock that the test moves."""

    def __init__(
        self, folder: Path, on_rejected: Callable[[RejectedDrop], None] | None = None, free: int = 10**12, **watch: Any
    ) -> None:
        self.path = folder / "inbox"
        self.free = free
        self.rejected: list[RejectedDrop] = []
        self.now = 1000.0
        watched = WatchedFolder(path=self.path, email=("ward@hospital.example",))
        self.settings = Settings(
            data_dir=folder / "data",
            watch=WatchSettings(folders=(watched,), settle_s=SETTLE_S, **({"recipient_domains": ("hospital.example",)} | watch)),
            listener=ListenerSettings(reserve_gib=0),
        )
        self.inbox = Inbox(watched, self.settings, on_rejected or self.rejected.append, lambda: NOW, lambda _path: self.free)
        self.inbox.prepare()

    def poll(self, after: float = 0.0) -> bool:
        self.now += after
        return self.inbox.poll(self.now)

    def settle(self) -> None:
        self.poll()
        self.poll(SETTLE_S)

    def names(self, where: str = "") -> list[str]:
        return sorted(p.name for p in (self.path / where).iterdir() if p.name not in ("processed", "rejected"))

    def arrivals(self) -> list[dict[str, Any]]:
        found = []
        for folder in sorted(self.settings.received_dir.iterdir()):
            record = json.loads((folder / "arrival.json").read_bytes())
            closed = folder / "closed.json"
            record |= json.loads(closed.read_bytes()) if closed.exists() else {"outcome": None}
            found.append(record | {"files": sorted(p.read_bytes() for p in folder.glob("*.dcm")), "folder": folder})
        return found


def image(number: int) -> bytes:
    return file_bytes(ct_slice(number))
