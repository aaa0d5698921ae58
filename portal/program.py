"""The portal program."""

from __future__ import annotations

import logging
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn

from config.settings import Settings
from corewatch.errors import ConfigurationError
from foundation.service_manager import ServiceManager
from ledger.store import Ledger
from portal.access.proxy_header import is_trusted_proxy
from portal.app import make_application, make_site
from portal.metrics import start_metrics
from portal.serving.connection_table import ConnectionTable
from portal.serving.http_protocol import Deadlines, protocol_class
from portal.serving.peer import with_peers

log = structlog.get_logger()

_MOST_FILES: Final = 4096
_OTHER_FILES: Final = 256
"""Files that are open besides connections of readers: database, images, listening sockets."""


class _Server(uvicorn.Server):
    """Server that exits with 0 on SIGTERM, where uvicorn's own raises the signal again, and that tells the service manager that it
    works."""

    def __init__(self, config: uvicorn.Config, manager: ServiceManager) -> None:
        super().__init__(config)
        self._manager = manager

    async def on_tick(self, counter: int) -> bool:
        """Report that the event loop runs; called every 0.1 s."""
        if counter == 0:
            self._manager.ready()
        self._manager.alive()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def _most_connections() -> int:
    """Connections that the limit of open files has room for; raises this limit where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(_MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(64, wanted - _OTHER_FILES)


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises
    ------
    ConfigurationError
        The settings have no `portal`, or its certificate cannot be read.
    """
    portal = settings.portal
    if portal is None:
        raise ConfigurationError("portal: the settings have no such section", "add `portal: {url: https://...}`")
    if (portal.certificate is None) != (portal.certificate_key is None):
        raise ConfigurationError("portal: only one of certificate and certificate_key is set", "set both, or neither")
    for file in (portal.certificate, portal.certificate_key):
        if file is not None and not file.is_file():
            raise ConfigurationError(f"portal: {file} does not exist", "correct portal.certificate or portal.certificate_key")
    ledger = Ledger(settings.database_url)
    stop_metrics = start_metrics(settings, ledger)
    try:
        app = make_application(make_site(settings, ledger))
        log.info("ready", host=portal.host, port=portal.port)
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line per invalid request fills the log
        table = ConnectionTable(
            _most_connections(), portal.connections_per_address, lambda peer: is_trusted_proxy(peer, portal.proxies)
        )
        config = uvicorn.Config(
            with_peers(app, portal.proxies),
            host=portal.host,
            port=portal.port,
            ssl_certfile=portal.certificate,
            ssl_keyfile=portal.certificate_key,
            proxy_headers=False,  # added above, below the layer that records the peer itself
            lifespan="off",
            server_header=False,
            access_log=False,  # the paths hold the tokens of the links
            log_config=None,
            http=protocol_class(table, Deadlines()),
            loop="portal.serving.loop:PortalLoop",
            ws="none",
            timeout_keep_alive=10,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=16_384,
        )
        _Server(config, ServiceManager()).run()
    finally:
        stop_metrics()
        ledger.close()
