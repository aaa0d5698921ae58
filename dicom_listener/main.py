"""The listener as a program."""

from __future__ import annotations

import signal

from config.settings import Settings
from config.stopping import StopRequest
from dicom_listener.processes import supervise
from dicom_listener.server import StorageListener

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT, then let open associations finish and return. Must be called from the main thread.

    With `listener.processes` above 1 the port is bound once and shared by that many processes; one that dies is replaced.

    Raises
    ------
    ConfigurationError
        The port is taken or a setting cannot be used.
    """
    processes = settings.listener.processes
    if processes == 1:
        listener = StorageListener(settings)
        _run(listener)
        return
    # made before any process or thread: all processes accept from this one socket, so whichever is idle takes the next sender
    listener = StorageListener(settings, processes=processes)
    listener.announce()
    supervise(listener.run_until, processes, STOP_SIGNALS)


def _run(listener: StorageListener) -> None:
    stop = StopRequest()
    before = {number: signal.signal(number, stop.handle) for number in STOP_SIGNALS}
    try:
        listener.announce()
        listener.run_until(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
