"""Names of peers while the name server comes and goes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from foundation import addresses
from foundation.addresses import CACHE_S, CachedResolver, host_matches
from tests.support.listener import captured_logs


class NameServer:
    """One that knows what the test wants, and counts who asks. `None` where it is away."""

    def __init__(self) -> None:
        self.known: frozenset[str] | None = frozenset({"10.0.0.7"})
        self.asked = 0

    def __call__(self, _name: str) -> frozenset[str]:
        self.asked += 1
        return self.known or frozenset()


@pytest.fixture
def server() -> NameServer:
    return NameServer()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def names(server: NameServer, now: list[float]) -> CachedResolver:
    return CachedResolver(server, lambda: now[0])


def test_a_name_is_not_asked_for_at_every_association(names: CachedResolver, server: NameServer, now: list[float]) -> None:
    for _ in range(100):
        assert names("pacs") == {"10.0.0.7"}
    assert server.asked == 1
    server.known = frozenset({"10.0.0.8"})
    now[0] += CACHE_S
    assert names("pacs") == {"10.0.0.8"}, "a name that has moved"


def test_while_the_name_server_is_away_the_last_addresses_count(
    names: CachedResolver, server: NameServer, now: list[float]
) -> None:
    names("pacs")
    server.known = None
    with captured_logs(addresses) as logs:
        for _ in range(10):
            now[0] += CACHE_S
            assert names("pacs") == {"10.0.0.7"}
            assert names("pacs") == {"10.0.0.7"}
        assert server.asked == 11, "nor does every association wait for it"
        assert [line["host"] for line in logs] == ["pacs"], "said once"
        server.known = frozenset({"10.0.0.8"})
        now[0] += CACHE_S
        assert names("pacs") == {"10.0.0.8"}
        server.known = None
        now[0] += CACHE_S
        names("pacs")
        assert len(logs) == 2


def test_a_name_that_never_had_an_address_is_asked_for_again(names: CachedResolver, server: NameServer) -> None:
    server.known = None
    assert names("pacs") == frozenset()
    server.known = frozenset({"10.0.0.7"})
    assert names("pacs") == {"10.0.0.7"}


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("10.0.0.7", True),
        ("10.0.0.0/24", True),
        ("10.0.1.0/24", False),
        ("::ffff:10.0.0.7", True),
        ("pacs", True),
        ("10.0.0.8", False),
    ],
)
def test_an_address_a_network_and_a_name(names: CachedResolver, host: str, wanted: bool) -> None:
    assert host_matches(host, ip_address("10.0.0.7"), names) is wanted
