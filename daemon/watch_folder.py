"""The watched folders: what is dropped there becomes arrivals; the originals are kept under `processed` or `rejected`."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import structlog

from config.settings import Settings
from corewatch.clock import Clock, utc_now
from daemon.watch_hints import Hints
from daemon.watch_inbox import Inbox, RejectedDrop

log = structlog.get_logger()


class WatchFolder:
    """Watches all folders of the settings.

    Parameters
    ----------
    on_rejected
        Called for every drop that is refused, before it is put into `rejected`; where it raises, the drop stays.
    """

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
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._hints = Hints([f.path for f in self._settings.folders], self._settings.polling, self._wake)
        self._inboxes = [Inbox(f, settings, on_rejected, clock) for f in self._settings.folders]

    def start(self) -> None:
        """Watch in a thread of its own.

        Raises
        ------
        ConfigurationError
            File events cannot be had although `watch.polling` is `never`.
        """
        for inbox in self._inboxes:
            inbox.prepare()
        self._hints.start()
        self._thread = threading.Thread(target=self._run, name="watch-folder")
        self._thread.start()
        log.info("watching", folders=[str(f.path) for f in self._settings.folders])

    @property
    def alive(self) -> bool:
        """Whether it watches. It may be busy for as long as a large drop from a slow share takes."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Watch no more; returns when the drop that is being taken is done."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._hints.stop()

    def poll(self, now: float) -> bool:
        """Look once, and take what has settled. Returns whether something is waiting to settle.

        Parameters
        ----------
        now
            Seconds of a clock that never goes back.
        """
        waiting = [inbox.poll(now) for inbox in self._inboxes]
        return any(waiting)

    def _run(self) -> None:
        quick = max(0.05, min(self._settings.settle_s / 2, self._settings.rescan_s))
        while not self._stopping.is_set():
            self._wake.clear()
            waiting = self._poll_safely()
            if self._stopping.is_set():
                return
            if waiting:
                self._stopping.wait(quick)
            else:
                self._wake.wait(self._settings.rescan_s)

    def _poll_safely(self) -> bool:
        try:
            return self.poll(self._monotonic())
        except Exception as error:
            # a defect of ours must not end the watching; no message, which may quote a file name
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("watch_failed", error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
            return False
