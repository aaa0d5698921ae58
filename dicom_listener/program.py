"""`corewatch listen`: the DICOM listener as a program, in one process or several."""

from __future__ import annotations

import signal
from collections.abc import Callable

from config.settings import Settings
from dicom_listener.prefork import supervise
from dicom_listener.server import StorageListener
from foundation.heartbeat import LISTENER_HEARTBEAT, Heartbeat
from foundation.service_manager import ServiceManager
from foundation.stopping import StopRequest

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT, then let open associations finish and return. Must be called from the main thread.

    With `listener.processes` above 1 the port is bound once and shared by that many processes; one that dies or hangs is replaced.
    Notifies the service manager that the listener is ready, and then sends its watchdog notifications. While it works it beats in
    the data folder (`LISTENER_HEARTBEAT`), so that the daemon does not take its downtime for silence of the senders.

    Raises
    ------
    ConfigurationError
        The port is taken or a setting cannot be used.
    """
    processes, manager = settings.listener.processes, ServiceManager()
    heart = Heartbeat(settings.data_dir / LISTENER_HEARTBEAT)

    def alive() -> None:
        manager.alive()
        heart.beat()

    if processes == 1:
        listener = StorageListener(settings)
        _run(listener, manager, alive)
        return
    # before any fork and any thread: all processes accept from this one socket, so that an idle one takes the next connection
    listener = StorageListener(settings, processes=processes)
    listener.announce()
    manager.ready()
    supervise(lambda stop, heartbeat: listener.run_until(stop, heartbeat=heartbeat), processes, STOP_SIGNALS, alive)


def _run(listener: StorageListener, manager: ServiceManager, alive: Callable[[], None]) -> None:
    stop = StopRequest()
    before = {number: signal.signal(number, stop.handle) for number in STOP_SIGNALS}
    try:
        listener.announce()
        manager.ready()
        listener.run_until(stop, heartbeat=alive)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
