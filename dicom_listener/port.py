"""The listening socket."""

from __future__ import annotations

import socket

from corewatch.errors import ConfigurationError

BACKLOG = 128
"""Connections that wait to be accepted; a PACS opens several at once."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    ConfigurationError
        The port is taken, or the host is not ours.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"listener: cannot listen on {host}:{port}: {error.strerror or error}", "is the port in use?"
        ) from error
