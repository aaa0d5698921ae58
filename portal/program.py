"""The portal program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from config.settings import Settings
from corewatch.errors import ConfigurationError
from ledger.store import Ledger
from portal.app import make_application, make_site
from portal.serving.peer import with_peers

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Server that exits with 0 on SIGTERM; uvicorn's own raises the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


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
    try:
        app = make_application(make_site(settings, ledger))
        log.info("ready", host=portal.host, port=portal.port)
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
            limit_concurrency=100,
            timeout_keep_alive=10,
            h11_max_incomplete_event_size=16_384,
        )
        _Server(config).run()
    finally:
        ledger.close()
