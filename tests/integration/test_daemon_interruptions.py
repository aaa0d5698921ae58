"""Our own downtime is no silence of the sender: half a series waits for the rest after crashes, restarts and outages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from corewatch.arrival import ArrivalOutcome, ArrivalSource
from corewatch.states import CaseState
from daemon.intake.assembler import LISTENER_AWAY_LIMIT_S, Assembler
from foundation.heartbeat import UNKNOWN, Listening
from tests.support.site import Site, open_site
from tests.support.spool import head, send_all

S = CaseState


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


def power_cut(site: Site, seconds: float, *senders: object) -> None:
    for sender in senders:
        sender.crash()  # type: ignore[attr-defined]
    site.clock.tick(seconds)
    site.restart()
    site.step()


def instances(site: Site) -> int:
    return len(site.ledger.cases.instance_paths(site.only()))


def test_a_power_cut_within_a_series_waits_for_the_senders_retry(site: Site) -> None:
    images = head()
    sender = site.sender()
    sender.send(images[:8])
    site.step(1)
    power_cut(site, 25, sender)
    for _ in range(11):
        site.step(10)
        assert site.only().state is S.RECEIVING
    again = site.sender()
    again.send(images)
    site.step(0.2)
    again.release()
    site.step(0.2)
    site.step(1.2)
    assert (site.only().state, instances(site)) == (S.QUEUED, 12)


def test_a_sender_that_never_retries_is_decided_after_the_wait(site: Site) -> None:
    sender = site.sender()
    sender.send(head()[:8])
    power_cut(site, 25, sender)
    site.step(119)
    assert site.only().state is S.RECEIVING
    site.step(1.5)
    assert site.only().state is S.QUEUED
    assert sender.arrival_id in site.ledger.intake.finished_arrivals()


def test_the_announced_number_ends_the_wait(site: Site) -> None:
    sender = site.sender()
    sender.send(head(NumberOfSeriesRelatedInstances=12))
    power_cut(site, 25, sender)
    site.step(1.2)
    assert site.only().state is S.QUEUED


def test_a_retry_that_only_repeats_ends_the_wait(site: Site) -> None:
    """The crash was after the last image: the sender, which had no answer to its release, sends all of them again."""
    sender = site.sender()
    sender.send(head())
    site.step(1)
    power_cut(site, 25, sender)
    send_all(site.received, site.clock, head())
    site.step(0.2)
    site.step(1.2)
    assert (site.only().state, instances(site)) == (S.QUEUED, 12)


def test_several_restarts_in_a_row_each_start_the_wait_again(site: Site) -> None:
    images = head()
    for count in (4, 6, 8):
        sender = site.sender()
        sender.send(images[:count])
        site.step(1)
        power_cut(site, 200, sender)
        assert site.only().state is S.RECEIVING
    power_cut(site, 119)
    power_cut(site, 119)
    assert site.only().state is S.RECEIVING
    again = site.sender()
    again.send(images)
    again.release()
    site.step(0.2)
    site.step(1.2)
    assert (site.only().state, instances(site)) == (S.QUEUED, 12)


def test_parallel_associations_are_made_up_for_by_as_many(site: Site) -> None:
    images = head()
    first, second = site.sender(), site.sender()
    first.send(images[:5])
    second.send(images[6:8])
    power_cut(site, 25, first, second)
    again = site.sender()
    again.send(images[:6])  # gapless with what is here
    again.release()
    site.step(0.2)
    site.step(30)
    assert site.only().state is S.RECEIVING
    again = site.sender()
    again.send(images[6:])
    again.release()
    site.step(0.2)
    site.step(30)
    assert (site.only().state, instances(site)) == (S.QUEUED, 12)


def test_a_released_series_does_not_wait_after_a_crash(site: Site) -> None:
    send_all(site.received, site.clock, head())
    power_cut(site, 25)
    site.step(0.2)
    assert site.only().state is S.QUEUED


def test_the_listener_alone_is_killed(site: Site) -> None:
    sender = site.sender()
    sender.send(head()[:8])
    site.step(1)
    sender.crash()
    for _ in range(11):
        site.step(10)
        assert site.only().state is S.RECEIVING
    site.step(10.5)
    assert site.only().state is S.QUEUED


@pytest.mark.parametrize("outcome", [ArrivalOutcome.INTERRUPTED, ArrivalOutcome.ABORTED])
def test_only_an_interruption_waits_for_a_retry(site: Site, outcome: ArrivalOutcome) -> None:
    sender = site.sender()
    sender.send(head()[:8])
    sender.writer.close(outcome)
    site.step(0.2)
    site.step(21)
    assert site.only().state is (S.RECEIVING if outcome is ArrivalOutcome.INTERRUPTED else S.QUEUED)


def test_a_drop_that_the_daemon_was_storing_is_stored_again(site: Site) -> None:
    half = site.sender(source=ArrivalSource.FOLDER)
    half.send(head()[:8])
    site.step(30)
    assert site.only().state is S.RECEIVING, "the daemon still stores it, however slow the share is"
    power_cut(site, 25, half)
    send_all(site.received, site.clock, head(), source=ArrivalSource.FOLDER)
    site.step(0.2)
    site.step(1.2)
    assert (site.only().state, instances(site)) == (S.QUEUED, 12)


class Outage:
    """What the heartbeat says; set by the test."""

    def __init__(self) -> None:
        self.now = UNKNOWN

    def __call__(self, _now: datetime) -> Listening:
        return self.now


@pytest.fixture
def listener(site: Site) -> Outage:
    outage = Outage()
    site.assembler = Assembler(site.ledger, site.settings, listening=outage)
    outage.now = Listening(site.clock())
    site.step()
    return outage


def test_silence_while_the_listener_is_away_does_not_count(site: Site, listener: Outage) -> None:
    for number in range(8):  # one association for each image
        send_all(site.received, site.clock, head()[number : number + 1])
        site.step(0.2)
    for seconds in range(6, 60, 3):
        listener.now = Listening(site.clock(), float(seconds))
        site.step(3)
        assert site.only().state is S.RECEIVING
    listener.now = Listening(site.clock())
    site.step(100)
    assert site.only().state is S.RECEIVING
    send_all(site.received, site.clock, head()[8:9])
    site.step(0.2)
    site.step(19)
    assert site.only().state is S.RECEIVING
    site.step(1.2)
    assert site.only().state is S.QUEUED, "after the next image the usual rules apply"


def test_a_complete_series_does_not_wait_for_a_listener_that_is_away(site: Site, listener: Outage) -> None:
    send_all(site.received, site.clock, head())
    listener.now = Listening(site.clock(), 10.0)
    site.step(0.2)
    site.step(1.2)
    assert site.only().state is S.QUEUED


def test_a_drop_does_not_wait_for_the_listener(site: Site, listener: Outage) -> None:
    send_all(site.received, site.clock, [*head()[:5], *head()[6:]], source=ArrivalSource.FOLDER)
    listener.now = Listening(site.clock(), 10.0)
    site.step(0.2)
    site.step(20)
    assert site.only().state is not S.RECEIVING


def test_a_listener_that_is_away_for_good_holds_nothing_for_ever(site: Site, listener: Outage) -> None:
    send_all(site.received, site.clock, [*head()[:5], *head()[6:]])
    site.step(1)
    listener.now = Listening(site.clock(), LISTENER_AWAY_LIMIT_S + 1)
    site.step(200)
    assert site.only().state is not S.RECEIVING
