"""Decisions on both sides of their limits: completeness, storage commitment, mail throttle, disk shortage, receipts of mails."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corewatch.completeness import Complete, Transfer, TransferSummary, Wait, decide, looks_whole, summarise
from corewatch.instance import Instance
from corewatch.mail_receipts import MailKind, MailReceipt, MailReceiptState, NextStep, next_step
from corewatch.mail_throttle import HOUR, MailLimits, SendMode, SentMail, ThrottleDecision, is_urgent, throttle
from corewatch.shortage import Shortage, enough_from, short_below
from corewatch.storage_commitment import (
    FAILURE_REASONS,
    MAXIMUM_ROUNDS,
    CommitmentRequest,
    Committed,
    NotCommitted,
    SendAndRequest,
    describe_failure,
    next_commitment_step,
)
from corewatch.units import MIB
from tests.support.instances import ENHANCED_CT, one, stack

T0 = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


# completeness ---------------------------------------------------------------------------------------------------------------------


def ask(instances: list[Instance], quiet_s: float, **signs: Any) -> Complete | Wait:
    known = {"open_arrivals": False, "aborted": False, "idle_s": 20.0, "grace_s": 1.0} | signs
    return decide(instances, last_stored_at=T0, now=at(quiet_s), **known)


FRAMES = one(900, frames=320, sop_class_uid=ENHANCED_CT, position_lps=None)


@pytest.mark.parametrize(
    ("instances", "whole"),
    [
        ([FRAMES], True),
        ([FRAMES, FRAMES], True),
        ([replace(FRAMES, frames=2)], True),
        ([replace(FRAMES, frames=1)], False),
        ([FRAMES, *stack(20)], False),
        ([*stack(20), FRAMES], False),
        (stack(20), True),
        (stack(20)[1:], False),
        ([], False),
    ],
)
def test_one_multi_frame_image_makes_the_single_slices_beside_it_no_whole_series(instances: list[Instance], whole: bool) -> None:
    assert looks_whole(instances) is whole
    answer = ask(instances, 1.0)
    assert isinstance(answer, Complete) is whole


@pytest.mark.parametrize(
    ("signs", "instances", "quiet", "answer"),
    [
        ({}, stack(), 0.999, Wait(at(1), "it looks complete; a moment's grace")),
        ({}, stack(), 1.0, Complete("released, and the stack has no gap")),
        ({"expected": 160}, stack(), 1.0, Complete("all 160 instances are here")),
        ({"expected": 159}, stack(), 1.0, Complete("all 159 instances are here")),
        ({"expected": 160}, stack(), 0.5, Wait(at(1), "it looks complete; a moment's grace")),
        ({"expected": 161}, stack(), 1.0, Wait(at(20), "160 of 161 instances are here")),
        ({"expected": 161}, stack(), 20.0, Complete("nothing new for 20 s")),
        ({"open_arrivals": True}, stack(), 19.9, Wait(at(20), "the sender still has an association open")),
        ({"open_arrivals": True, "aborted": True}, stack(), 1.0, Wait(at(20), "the sender still has an association open")),
        ({"aborted": True}, stack(), 1.0, Wait(at(20), "the sender's association was aborted; it may try again")),
        (
            {"one_after_another": True},
            stack(),
            1.0,
            Wait(at(20), "the sender sends the series in parts, one association after another"),
        ),
        ({}, stack()[1:], 1.0, Wait(at(20), "the slices do not form a stack without gaps")),
        ({"expected": 160}, [*stack(160)[1:], one(162)], 1.0, Wait(at(20), "the slices do not form a stack without gaps")),
        # while the rest may still come, a short series waits longer than the idle time, never less
        (
            {"expected": 161, "open_arrivals": True, "short_wait_s": 60.0},
            stack(),
            59.9,
            Wait(at(60), "160 of 161 instances are here"),
        ),
        ({"expected": 161, "open_arrivals": True, "short_wait_s": 60.0}, stack(), 60.0, Complete("nothing new for 60 s")),
        (
            {"expected": 161, "open_arrivals": True, "short_wait_s": 5.0},
            stack(),
            19.9,
            Wait(at(20), "160 of 161 instances are here"),
        ),
        ({"expected": 161, "open_arrivals": False, "short_wait_s": 60.0}, stack(), 20.0, Complete("nothing new for 20 s")),
        ({"expected": 160, "open_arrivals": True, "short_wait_s": 60.0}, stack()[::-1], 20.0, Complete("nothing new for 20 s")),
        ({"open_arrivals": True, "short_wait_s": 60.0}, stack(), 20.0, Complete("nothing new for 20 s")),
        ({"grace_s": 30.0}, stack(), 19.9, Wait(at(20), "it looks complete; a moment's grace")),
        ({"grace_s": 0.0}, stack(), 0.0, Complete("released, and the stack has no gap")),
        ({"idle_s": 0.0}, stack(3)[1:], 0.0, Complete("nothing new for 0 s")),
        ({}, stack(160, instances_in_series=160), 1.0, Complete("all 160 instances are here")),
        ({"expected": 3}, stack(160, instances_in_series=160), 1.0, Complete("all 160 instances are here")),
        ({"expected": 0}, stack(4), 1.0, Complete("all 0 instances are here")),
    ],
)
def test_when_a_series_is_complete_and_why(
    signs: dict[str, Any], instances: list[Instance], quiet: float, answer: Complete | Wait
) -> None:
    assert ask(instances, quiet, **signs) == answer


def transfer(start: float, end: float | None, **kind: bool) -> Transfer:
    return Transfer(at(start), None if end is None else at(end), **kind)


@pytest.mark.parametrize(
    ("transfers", "wanted"),
    [
        # (open, aborted, one after another)
        ([transfer(0, 1), transfer(1, 2)], (False, False, False)),
        ([transfer(0, 1), transfer(1.001, 2)], (False, False, True)),
        ([transfer(0, 1), transfer(2, 3, carried=False)], (False, False, False)),
        ([transfer(0, 1, carried=False), transfer(2, 3)], (False, False, False)),
        ([transfer(0, 1), transfer(2, 3, aborted=True)], (False, True, False)),
        ([transfer(0, 1), transfer(2, None)], (True, False, False)),
        ([transfer(0, 10), transfer(1, 2), transfer(3, 4)], (False, False, True)),
        # an abort is made good by an association that began after it
        ([transfer(0, 5, aborted=True), transfer(4.999, 9)], (False, True, False)),
        ([transfer(0, 5, aborted=True), transfer(5, 9)], (False, False, False)),
        ([transfer(0, 5, aborted=True), transfer(6, 9, aborted=True)], (False, True, False)),
        ([transfer(0, 5, aborted=True), transfer(6, 9, carried=False)], (False, True, False)),
        ([transfer(0, 5, aborted=True, carried=False), transfer(1, 9)], (False, False, False)),
        ([transfer(0, 5, aborted=True), transfer(6, 9), transfer(7, 8, aborted=True)], (False, True, False)),
        ([transfer(0, None, carried=False)], (True, False, False)),
        ([], (False, False, False)),
    ],
)
def test_what_the_associations_of_a_series_say(transfers: list[Transfer], wanted: tuple[bool, bool, bool]) -> None:
    assert summarise(transfers) == TransferSummary(*wanted)
    assert summarise(reversed(transfers)) == TransferSummary(*wanted)


# storage commitment ---------------------------------------------------------------------------------------------------------------


def test_failure_reasons_are_those_of_the_standard() -> None:
    """PS3.3 C.14.1.1; and whether sending the object again may help."""
    assert {code: helps for code, (_, helps) in FAILURE_REASONS.items()} == {
        0x0110: True,
        0x0112: True,
        0x0119: False,
        0x0122: False,
        0x0131: True,
        0x0213: True,
    }
    assert describe_failure(0x0112) == "it does not have the object (0x0112)"
    assert describe_failure(0xC000) == "unknown reason (0xC000)"


def request(
    committed: str | None, *failed: tuple[str, int], instances: tuple[str, ...] = ("1", "2", "3"), deadline: float = 10
) -> CommitmentRequest:
    return CommitmentRequest("2.25.1", instances, at(deadline), None if committed is None else frozenset(committed), failed)


@pytest.mark.parametrize(
    ("asked", "now", "wanted"),
    [
        ([], 0, SendAndRequest()),
        ([request("123")], 0, Committed(3)),
        ([request("12"), request("3", instances=("3",))], 0, Committed(3)),
        ([request("129"), request("3", instances=("2",))], 0, SendAndRequest(frozenset("12"))),
        ([request(None)], 9.9, SendAndRequest()),
        ([request("12"), request(None, instances=("3",))], 9.9, SendAndRequest(frozenset("12"))),
        ([request(None), request("123")], 0, Committed(3)),
        ([request("1", ("2", 0x0112), ("3", 0x0110))], 99, SendAndRequest(frozenset("1"))),
        ([request("1"), request("2", instances=("2", "3"))], 0, SendAndRequest(frozenset("12"))),
    ],
)
def test_the_next_step_of_a_commitment(asked: list[CommitmentRequest], now: float, wanted: SendAndRequest | Committed) -> None:
    assert next_commitment_step(asked, at(now)) == wanted


@pytest.mark.parametrize(
    ("asked", "now", "words"),
    [
        ([request(None)], 10, "stored 3 objects and did not say in time whether it keeps 3"),
        ([request("12"), request(None, instances=("3",))], 10, "stored 3 objects and did not say in time whether it keeps 1"),
        ([request("", ("1", 0x0112), ("2", 0x0122))], 0, "3 of 3 objects: it does not support the SOP class (0x0122); look"),
        ([request("1", ("2", 0x0119))], 0, "does not keep 2 of 3 objects: class and instance do not fit (0x0119)"),
        ([request("1", ("1", 0x0119), ("2", 0x0112))] * 3, 0, "it does not have the object (0x0112), after they were sent 3"),
        ([request("12", ("3", 0x0213))] * 3, 0, "1 of 3 objects: resource limitation (0x0213), after they were sent 3 times"),
        ([request(None), *[request("12")] * 3], 0, "after they were sent 3 times"),
    ],
)  # fmt: skip
def test_what_an_operator_reads_of_a_commitment(asked: list[CommitmentRequest], now: float, words: str) -> None:
    step = next_commitment_step(asked, at(now))
    assert isinstance(step, NotCommitted)
    assert words in step.why


def test_three_rounds_and_no_more() -> None:
    assert MAXIMUM_ROUNDS == 3
    assert isinstance(next_commitment_step([request("12")] * 2, T0), SendAndRequest)
    # a request that was never answered is no round
    assert isinstance(next_commitment_step([request(None), request(None), request("12"), request("12")], T0), SendAndRequest)


# mail throttle --------------------------------------------------------------------------------------------------------------------

LIMITS = MailLimits(per_hour=4, digest_every=timedelta(minutes=15), alert_alone_for=timedelta(hours=12))


def mails(*minutes: float, digest: bool = False) -> list[SentMail]:
    return [SentMail(T0 - timedelta(minutes=m), digest) for m in minutes]


def wait(minutes: float) -> ThrottleDecision:
    return ThrottleDecision(SendMode.WAIT, T0 + timedelta(minutes=minutes))


ALONE, DIGEST = ThrottleDecision(SendMode.ALONE), ThrottleDecision(SendMode.DIGEST)


@pytest.mark.parametrize(
    ("waiting", "sent", "wanted"),
    [
        (1, [], ALONE),
        (3, [], ALONE),
        (4, [], DIGEST),
        (1, mails(1, 2), ALONE),
        (2, mails(1, 2), DIGEST),
        (1, mails(1, 2, 3), ALONE),
        (2, mails(1, 2, 3), DIGEST),
        (1, mails(1, 2, 3, 4), wait(56)),
        (9, mails(1, 2, 3, 4), wait(56)),
        (1, mails(4, 3, 2, 1, 50), wait(56)),
        (1, mails(1, 2, 3, 60), ALONE),
        (1, mails(1, 2, 3, 59.99), wait(0.01)),
        (1, mails(14.99, digest=True), wait(0.01)),
        (1, mails(15, digest=True), ALONE),
        (1, mails(10, 5, digest=True), wait(10)),
        (3, [*mails(20, digest=True), *mails(1)], DIGEST),
        (1, [*mails(14, digest=True), *mails(1, 2, 3, 4)], wait(1)),
    ],
)
def test_alone_in_a_digest_or_later(waiting: int, sent: list[SentMail], wanted: ThrottleDecision) -> None:
    assert throttle(waiting, sent, LIMITS, T0) == wanted
    assert throttle(waiting, sent[::-1], LIMITS, T0) == wanted
    assert timedelta(minutes=60) == HOUR


@pytest.mark.parametrize(
    ("alert", "hours", "urgent"), [(True, 11.99, True), (True, 12, False), (False, 0, False), (True, -1, True)]
)
def test_a_recent_alert_is_urgent(alert: bool, hours: float, urgent: bool) -> None:
    assert is_urgent(alert, T0 - timedelta(hours=hours), LIMITS, T0) is urgent


# shortage of disk -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reserve_mib", "short", "enough"), [(0, 16, 80), (640, 656, 720), (641, 657, 721), (1000, 1016, 1116), (2000, 2016, 2216)]
)
def test_from_where_to_where_a_shortage_reaches(reserve_mib: int, short: int, enough: int) -> None:
    assert short_below(reserve_mib * MIB) == short * MIB
    assert enough_from(reserve_mib * MIB) // MIB == enough
    assert MIB == 1048576


def test_a_shortage_from_its_beginning_to_its_end() -> None:
    reserve = 1000 * MIB
    little, enough = short_below(reserve) - 1, enough_from(reserve)
    state = Shortage()
    assert not state.must_notify
    assert state.observe(little + 1, reserve, 0.0) is state, "room enough is nothing to remember"
    state = state.observe(little, reserve, 1.0)
    assert (state, state.must_notify) == (Shortage(short=True), True)
    assert state.observe(little, reserve, 2.0).must_notify, "until somebody was reached"
    state = state.after_notifying()
    assert (state.short, state.notified, state.must_notify) == (True, True, False)
    state = state.observe(little, reserve, 3.0)
    assert (state.notified, state.enough_since) == (True, None)
    assert state.observe(enough - 1, reserve, 4.0).enough_since is None
    state = state.observe(enough, reserve, 5.0)
    assert state == Shortage(short=True, notified=True, enough_since=5.0)
    assert state.observe(enough, reserve, 604.9) == state
    assert state.observe(enough, reserve, 605.0) == Shortage()
    assert state.observe(enough - 1, reserve, 604.0).observe(enough, reserve, 605.0).short, "it must last without a break"
    assert state.observe(little, reserve, 604.0).enough_since is None


# receipts of mails ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "copies", "must_arrive", "may_arrive"),
    [
        (None, 0, NextStep.SEND, NextStep.SEND),
        (MailReceiptState.REFUSED, 0, NextStep.SEND, NextStep.SEND),
        (MailReceiptState.REFUSED, 1, NextStep.REPEAT, NextStep.GIVE_UP),
        (MailReceiptState.REFUSED, 3, NextStep.GIVE_UP, NextStep.GIVE_UP),
        (MailReceiptState.SENDING, 0, NextStep.REPEAT, NextStep.GIVE_UP),
        (MailReceiptState.SENDING, 1, NextStep.REPEAT, NextStep.GIVE_UP),
        (MailReceiptState.SENDING, 2, NextStep.REPEAT, NextStep.GIVE_UP),
        (MailReceiptState.SENDING, 3, NextStep.GIVE_UP, NextStep.GIVE_UP),
        (MailReceiptState.ACCEPTED, 1, NextStep.LEAVE, NextStep.LEAVE),
        (MailReceiptState.UNKNOWN, 1, NextStep.LEAVE, NextStep.LEAVE),
        (MailReceiptState.ACCEPTED, 0, NextStep.LEAVE, NextStep.LEAVE),
    ],
)
def test_what_a_recipient_gets_next(
    state: MailReceiptState | None, copies: int, must_arrive: NextStep, may_arrive: NextStep
) -> None:
    receipt = None if state is None else MailReceipt(state, copies)
    for kind in MailKind:
        wanted = may_arrive if kind is MailKind.RESULT else must_arrive
        assert next_step(receipt, kind) is wanted
