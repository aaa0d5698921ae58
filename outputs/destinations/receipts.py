"""Which recipients have taken which mail: kept in the case's folder, so that a repeat reaches only those who lack it."""

from __future__ import annotations

import json
from pathlib import Path

from outputs.files import write_atomically


class Receipts:
    """Accepted recipients by Message-ID, in one small JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def accepted(self, message_id: str) -> frozenset[str]:
        """Addresses that a server has taken this message for."""
        return frozenset(self._read().get(message_id, ()))

    def add(self, message_id: str, recipients: frozenset[str]) -> None:
        """Record more of them, durably."""
        if not recipients:
            return
        data = self._read()
        data[message_id] = sorted(recipients.union(data.get(message_id, ())))
        write_atomically(self._path, json.dumps(data, indent=1).encode())

    def _read(self) -> dict[str, list[str]]:
        try:
            data = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}
