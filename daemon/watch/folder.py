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
from daemon.watch.events import Hints
from daemon.watch.inbox import Inbox, RejectedDrop

log = structlog.get_logger()


STOP_TIMEOUT_S = 30.0
"""How long the drops that are being taken may go on; they are taken once more at the next start."""


LIVELY_S = 10.0
"""After an event a folder is looked at again and again for so long: what comes into a folder in it raises none."""


class WatchFolder:
    """Watches all folders of the settings, each in a thread of its own.

    A share that hangs, or a drop of many gigabytes, keeps no other folder waiting.

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
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._inboxes = [Inbox(f, settings, on_rejected, clock) for f in self._settings.folders]
        self._wakes = [threading.Event() for _ in self._inboxes]
        watched = {f.path: wake for f, wake in zip(self._settings.folders, self._wakes, strict=True)}
        self._hints = Hints(watched, self._settings.polling)

    def start(self) -> None:
        """Begin to watch.

        Raises
        ------
        ConfigurationError
            File events cannot be had although `watch.polling` is `never`.
        """
        for inbox in self._inboxes:
            inbox.prepare()
        self._hints.start()
        for number, (inbox, wake) in enumerate(zip(self._inboxes, self._wakes, strict=True), 1):
            # as with the other parts of the daemon: one that hangs must not keep the program from ending
            thread = threading.Thread(target=self._run, args=(inbox, wake), name=f"watch-folder-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        log.info("watching", folders=[str(f.path) for f in self._settings.folders])

    @property
    def alive(self) -> bool:
        """Whether all are watched. One may be busy for as long as a large drop from a slow share takes."""
        return len(self._threads) == len(self._inboxes) and all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Watch no more; returns when the drops that are being taken are done, or hang."""
        self._stopping.set()
        for wake in self._wakes:
            wake.set()
        deadline = self._monotonic() + STOP_TIMEOUT_S
        for thread, watched in zip(self._threads, self._settings.folders, strict=False):
            thread.join(max(0.5, deadline - self._monotonic()))
            if thread.is_alive():
                log.error("a watched folder hangs, or a drop takes long", folder=str(watched.path))
        self._hints.stop()

    def poll(self, now: float) -> bool:
        """Look once into every folder, and take what has settled. Returns whether something is waiting to settle.

        Parameters
        ----------
        now
            Seconds of a clock that never goes back.
        """
        waiting = [inbox.poll(now) for inbox in self._inboxes]
        return any(waiting)

    def _run(self, inbox: Inbox, wake: threading.Event) -> None:
        quick = max(0.05, min(self._settings.settle_s / 2, self._settings.rescan_s))
        lively_until = float("-inf")
        while not self._stopping.is_set():
            if wake.is_set():
                lively_until = self._monotonic() + LIVELY_S
                wake.clear()
            waiting = self._poll_safely(inbox)
            if self._stopping.is_set():
                return
            if waiting or self._monotonic() < lively_until:
                self._stopping.wait(quick)
            else:
                wake.wait(self._settings.rescan_s)

    def _poll_safely(self, inbox: Inbox) -> bool:
        try:
            return inbox.poll(self._monotonic())
        except Exception as error:
            # a defect of ours must not end the watching; no message, which may quote a file name
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("watch_failed", error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
            return False
