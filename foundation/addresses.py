"""Hosts as the settings name them (an address, a network, a name), and the addresses that connections come from."""

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
"""Addresses of a host name; empty where it has none."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED_BITS = 96
"""Of an IPv4-mapped address, before the IPv4 address (RFC 4291 2.5.5.2)."""

FRESH_S = 60.0
"""A name is asked for no more often than this."""


def parse_address(text: str) -> Address | None:
    """The address, IPv4 also where it came as IPv4-mapped IPv6 (`::ffff:10.0.0.1`); None where it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def host_matches(host: str, address: Address, resolve: Resolver) -> bool:
    """Whether `address` is that of `host`: an address, a network (`10.1.2.0/24`) or a name."""
    network = _parse_network(host)
    if network is not None:
        return address in network
    return any(parse_address(found) == address for found in resolve(host))


def resolve_host(name: str) -> frozenset[str]:
    """Addresses of a host name from the system's resolver; empty where it has none."""
    try:
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return frozenset()


class RememberedNames:
    """A `Resolver` that knows what each name was last: while the name server is away, a PACS can send as before.

    Nor does every association wait for it. Safe for use by several threads.

    Parameters
    ----------
    resolve
        Asked at most every `FRESH_S` for a name that it knows.
    monotonic
        Seconds of a clock that never goes back.
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
        if self._monotonic() - asked_at < FRESH_S:
            return before
        found = self._resolve(name)  # without the lock: it may take long
        with self._lock:
            if found or before:
                self._known[name] = (self._monotonic(), found or before)
        if found:
            self._lost.recovered(name)
        elif before and self._lost.failed(name):
            log.warning("a host name of listener.peers has no address any more; its last ones count", host=name)
        return found or before


def _parse_network(host: str) -> _Network | None:
    """The network, or the one address, IPv4 also where it is written as IPv4-mapped IPv6, as `parse_address` has it."""
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
