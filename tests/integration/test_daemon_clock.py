"""The system's clock is set while series arrive: it completes no series, and none waits for the old time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from corewatch.errors import RetryLater
from corewatch.states import CaseState
from daemon.upkeep.dispatcher import BACKOFF, Dispatcher
from tests.support.site import Site, open_site
from tests.support.spool import head, send_all

S = CaseState
HOUR = 3600.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 400 * 24 * HOUR, -400 * 24 * HOUR])
def test_half_a_series_is_not_complete_by_a_jump(site: Site, jump: float) -> None:
    sender = site.sender()
    sender.send(head()[:6])
    site.step(1)
    site.assembler.clock_jumped(site.clock.tick(jump))
    for _ in range(6):
        site.step(3)
        assert site.only().state is S.RECEIVING
    sender.send(head()[6:])
    sender.release()
    site.step(0.2)
    site.step(1.2)
    assert site.only().state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_series_whose_sender_hangs_ends_after_the_idle_time_of_the_new_clock(site: Site, jump: float) -> None:
    sender = site.sender()
    sender.send(head())
    site.step(1)
    site.assembler.clock_jumped(site.clock.tick(jump))
    site.step(19)
    assert site.only().state is S.RECEIVING
    site.step(2)
    assert site.only().state is S.QUEUED


def test_a_clock_that_was_set_back_between_two_runs(site: Site) -> None:
    sender = site.sender()
    sender.send(head())
    site.step(1)
    site.restart()
    site.step(-HOUR)
    site.step(19)
    assert site.only().state is S.RECEIVING
    site.step(2)
    assert site.only().state is S.QUEUED


def test_the_broker_back_off_survives_a_clock_that_was_set_back(site: Site) -> None:
    taken = []
    down = True

    def publish(work: object) -> None:
        if down:
            raise RetryLater("down")
        taken.append(work)

    send_all(site.received, site.clock, head())
    site.step(2)
    dispatcher = Dispatcher(site.ledger.outbox, publish)
    dispatcher.step(site.clock.tick(0))
    down = False
    now = site.clock.tick(-HOUR)
    site.ledger.clock_shift.shift(timedelta(hours=-1), now)
    dispatcher.step(now)
    dispatcher.step(site.clock.tick(BACKOFF.longest_s))
    assert len(taken) == 1
