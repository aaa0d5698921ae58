"""The watchdog of `corewatch up`, with what programs say to systemd."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cli.watchdog import LIMIT_S, Watchdog
from foundation.service_manager import ServiceManager


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchdog(clock: Clock) -> Iterator[Watchdog]:
    made = Watchdog(clock=clock)
    yield made
    made.close()


def test_a_program_hangs_when_it_has_said_nothing_for_the_limit(watchdog: Watchdog, clock: Clock) -> None:
    program = ServiceManager(watchdog.environment, clock)
    program.ready()
    for _ in range(20):
        clock.now += LIMIT_S / 4
        program.alive()
        assert not watchdog.is_silent()
    clock.now += LIMIT_S - 1
    assert not watchdog.is_silent()
    clock.now += 1
    assert watchdog.is_silent()


def test_one_that_is_not_ready_yet_or_stops_is_waited_for(watchdog: Watchdog, clock: Clock) -> None:
    clock.now += 10 * LIMIT_S
    assert not watchdog.is_silent()
    program = ServiceManager(watchdog.environment, clock)
    program.ready()
    program.stopping()
    assert not watchdog.is_silent()
    clock.now += 10 * LIMIT_S
    assert not watchdog.is_silent()


def test_the_next_process_has_said_nothing_yet(watchdog: Watchdog, clock: Clock) -> None:
    ServiceManager(watchdog.environment, clock).ready()
    assert not watchdog.is_silent()
    ServiceManager(watchdog.environment, clock).ready()  # unread
    watchdog.begin()
    clock.now += 10 * LIMIT_S
    assert not watchdog.is_silent()


def test_words_that_nobody_read_count_when_they_are_read(watchdog: Watchdog, clock: Clock) -> None:
    """A supervisor that was itself stopped for a while must not kill programs that worked meanwhile."""
    program = ServiceManager(watchdog.environment, clock)
    program.ready()
    clock.now += 3 * LIMIT_S
    program.alive()
    assert not watchdog.is_silent()


def test_two_do_not_hear_each_other(watchdog: Watchdog, clock: Clock) -> None:
    other = Watchdog(clock=clock)
    ServiceManager(other.environment, clock).ready()
    clock.now += 2 * LIMIT_S
    assert not watchdog.is_silent()
    assert not other.is_silent(), "read only now"
    clock.now += LIMIT_S
    assert other.is_silent()
    other.close()


def test_what_is_no_word_of_life_does_not_count(watchdog: Watchdog, clock: Clock) -> None:
    address = watchdog.environment["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for said in (bytes(range(256)), b"STATUS=busy", b""):
            sock.sendto(said, "\0" + address[1:])
    assert not watchdog.is_silent()
    clock.now += 2 * LIMIT_S
    assert not watchdog.is_silent(), "it has not even said that it is ready"
