"""Errors of a watched folder's share or disk, each logged once when it begins and once when it is over."""

from __future__ import annotations

import structlog

from foundation.outages import OutageTracker

log = structlog.get_logger()


class ShareErrors:
    """Logs the begin and the end of each error, not every occurrence."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._outages = OutageTracker()
        self._seen: set[str] = set()

    def begin(self) -> None:
        """Begin a poll."""
        self._seen = set()

    def enter(self, event: str, detail: str) -> None:
        """Report an error of this poll."""
        if self._outages.failed(event):
            log.error(event, folder=self._folder, detail=detail)
        self._seen.add(event)

    def end(self) -> None:
        """End a poll: errors that did not occur in it are over."""
        for event in self._outages.observe(self._seen).over:
            log.info("share_error_over", folder=self._folder, error=event)
