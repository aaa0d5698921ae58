"""Event loop of the portal: an unfinished TLS handshake ends after seconds, not after a minute."""

from __future__ import annotations

import asyncio
from typing import Any, Final

TLS_HANDSHAKE_S: Final = 10.0


class PortalLoop(asyncio.SelectorEventLoop):
    """The standard loop, with a deadline for handshakes of servers."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        """As the standard loop's."""
        if kwargs.get("ssl") is not None:
            kwargs.setdefault("ssl_handshake_timeout", TLS_HANDSHAKE_S)
        server: asyncio.Server = await super().create_server(*args, **kwargs)
        return server
