"""Watched folders: one thread per folder, woken by file events and by a periodic rescan."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import structlog

from config.settings import Settings
from corewatch.clock import Clock, utc_now
from daemon.watch.events import FolderEvents
from daemon.watch.inbox import Inbox
from daemon.watch.rejection import RejectedDrop

log = structlog.get_logger()

PAUSE_SLACK_S = 1.0
"""A thread that wakes later than this was paused (SIGSTOP, suspended machine). A pause is no time in which a drop was unchanged."""
FAST_SCAN_S = 10.0
"""Period of frequent scans after a file event: files that are written into a subfolder raise no event."""


class WatchFolders:
    """Component that watches all folders of the settings, one thread each.

    A hanging share or a drop of many gigabytes delays no other folder.

    Parameters
    ----------
    on_rejected
        Called for every rejected drop before it is moved to `rejected`; when it raises, the drop stays.
    """

    name = "watch folders"
    requires = ("assembler",)

    def __init__(
        self,
        settings: Settings,
        on_rejected: Callable[[RejectedDrop], None],
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings.watch
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._inboxes = [Inbox(f, settings, on_rejected, clock) for f in self._settings.folders]
        self._wakes = [threading.Event() for _ in self._inboxes]
        watched = {f.path: wake for f, wake in zip(self._settings.folders, self._wakes, strict=True)}
        self._events = FolderEvents(watched, self._settings.polling)

    def start(self) -> None:
        """Start watching.

        Raises
        ------
        ConfigurationError
            File events are not available although `watch.polling` is `never`.
        """
        for inbox in self._inboxes:
            inbox.prepare()
        self._events.start()
        for number, (inbox, wake) in enumerate(zip(self._inboxes, self._wakes, strict=True), 1):
            # a daemon thread, like the other components: one that hangs must not keep the program from ending
            thread = threading.Thread(target=self._run, args=(inbox, wake), name=f"watch-folder-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        log.info("watching_folders", folders=[str(f.path) for f in self._settings.folders])

    def is_working(self, _now_s: float) -> bool:
        """Whether every folder has its thread. One may be busy for hours with a large drop from a slow share."""
        return len(self._threads) == len(self._inboxes) and all(thread.is_alive() for thread in self._threads)

    def request_stop(self) -> None:
        """Stop watching after the drops that are being ingested."""
        self._stopping.set()
        for wake in self._wakes:
            wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the drops that are being ingested; the next start ingests again what was not finished."""
        deadline = self._monotonic() + timeout_s
        for thread, watched in zip(self._threads, self._settings.folders, strict=False):
            thread.join(max(0.5, deadline - self._monotonic()))
            if thread.is_alive():
                log.error("watch_folder_not_stopped", folder=str(watched.path), waited_s=timeout_s)
        self._events.stop()
        return not any(thread.is_alive() for thread in self._threads)

    def poll(self, now: float) -> bool:
        """Scan every folder once, and ingest what has settled. Returns whether a drop is waiting to settle.

        Parameters
        ----------
        now
            Seconds of a monotonic clock.
        """
        waiting = [inbox.poll(now) for inbox in self._inboxes]
        return any(waiting)

    def _run(self, inbox: Inbox, wake: threading.Event) -> None:
        fast_s = max(0.05, min(self._settings.settle_s / 2, self._settings.rescan_s))
        fast_until = float("-inf")
        paused_s = 0.0
        while not self._stopping.is_set():
            if wake.is_set():
                fast_until = self._monotonic() + FAST_SCAN_S
                wake.clear()
            waiting = self._poll_safely(inbox, self._monotonic() - paused_s)
            if self._stopping.is_set():
                return
            before = self._monotonic()
            if waiting or before < fast_until:
                self._stopping.wait(fast_s)
                due = before + fast_s
            else:
                wake.wait(self._settings.rescan_s)
                due = before + self._settings.rescan_s
            paused_s += max(0.0, self._monotonic() - due - PAUSE_SLACK_S)

    def _poll_safely(self, inbox: Inbox, now: float) -> bool:
        try:
            return inbox.poll(now)
        except Exception as error:
            # a defect in corewatch must not end the watching; the error's text is not logged, since it may quote a file name
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("watch_failed", error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
            return False
