"""IP addresses of peers: match a connection's address against a host of the settings (address, network or name)."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable

import structlog

from foundation.outages import OutageTracker

log = structlog.get_logger()

Resolver = Callable[[str], frozenset[str]]
"""Returns the addresses of a host name; empty if it has none."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED_BITS = 96
"""Prefix length of IPv4-mapped IPv6 addresses (RFC 4291 2.5.5.2)."""

CACHE_S = 60.0
"""Seconds for which a name is not resolved again."""


def parse_address(text: str) -> Address | None:
    """Parse an IP address; an IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) gives the IPv4 address. None for other text."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def host_matches(host: str, address: Address, resolve: Resolver) -> bool:
    """Whether `address` belongs to `host`: an address, a network (`10.1.2.0/24`) or a host name."""
    network = _parse_network(host)
    if network is not None:
        return address in network
    return any(parse_address(found) == address for found in resolve(host))


def resolve_host(name: str) -> frozenset[str]:
    """Addresses of a host name from the system's resolver; empty if it has none."""
    try:
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return frozenset()


class CachedResolver:
    """A `Resolver` with a cache: while the name server does not answer, the last known addresses count. Thread-safe.

    So a PACS can still send, and not every association waits for the name server.

    Parameters
    ----------
    resolve
        Called at most once per `CACHE_S` for a known name.
    monotonic
        Seconds of a monotonic clock.
    """

    def __init__(self, resolve: Resolver = resolve_host, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._resolve = resolve
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._lost = OutageTracker()

    def __call__(self, name: str) -> frozenset[str]:
        """Addresses of `name`."""
        with self._lock:
            asked_at, before = self._known.get(name, (float("-inf"), frozenset[str]()))
        if self._monotonic() - asked_at < CACHE_S:
            return before
        found = self._resolve(name)  # without the lock, since it may take long
        with self._lock:
            if found or before:
                self._known[name] = (self._monotonic(), found or before)
        if found:
            self._lost.recovered(name)
        elif before and self._lost.failed(name):
            log.warning("host_name_unresolved", host=name, effect="its last known addresses still count")
        return found or before


def _parse_network(host: str) -> _Network | None:
    """Parse a network or a single address; IPv4-mapped IPv6 gives IPv4, as in `parse_address`."""
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
