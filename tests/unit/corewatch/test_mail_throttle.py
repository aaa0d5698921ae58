"""For any sequence of cases and outages: mails stay within their bound, everything is mailed, nothing waits for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from corewatch.mail_throttle import HOUR, MailLimits, SendMode, SentMail, is_urgent, throttle

T0 = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
LIMITS = st.builds(
    MailLimits,
    per_hour=st.integers(2, 30),
    digest_every=st.integers(1, 60).map(lambda minutes: timedelta(minutes=minutes)),
    alert_alone_for=st.just(timedelta(hours=12)),
)


@settings(max_examples=150, deadline=None)
@given(
    LIMITS,
    st.lists(st.tuples(st.integers(0, 1800), st.booleans()), min_size=1, max_size=120),
)
def test_bounded_and_complete(limits: MailLimits, course: list[tuple[int, bool]]) -> None:
    """Minutes apart or all at once; while the server is away nothing gets a place that is used."""
    now, waiting, told = T0, 0, 0
    sent: list[SentMail] = []

    def let_go() -> datetime | None:
        nonlocal waiting, told
        while waiting:
            verdict = throttle(waiting, sent, limits, now)
            if verdict.mode is SendMode.WAIT:
                assert verdict.until is not None
                assert now < verdict.until <= now + HOUR
                return verdict.until
            gone = waiting if verdict.mode is SendMode.DIGEST else 1
            sent.append(SentMail(now, verdict.mode is SendMode.DIGEST))
            waiting, told = waiting - gone, told + gone
        return None

    for seconds, away in course:
        now += timedelta(seconds=seconds)
        waiting += 1
        if not away:
            let_go()
    for _ in range(limits.per_hour + 70):
        until = let_go()
        if until is None:
            break
        now = until
    assert waiting == 0
    assert told == len(course)
    for one in sent:
        assert sum(timedelta(0) <= one.at - other.at < HOUR for other in sent) <= limits.per_hour


@given(st.integers(30, 400))
def test_an_outage_ends_in_one_digest(cases: int) -> None:
    limits = MailLimits(30, timedelta(minutes=15), timedelta(hours=12))
    assert throttle(cases, [], limits, T0).mode is SendMode.DIGEST
    assert throttle(1, [SentMail(T0, True)], limits, T0 + timedelta(minutes=1)).until == T0 + timedelta(minutes=15)


def test_a_quiet_day_has_no_digest() -> None:
    limits = MailLimits(30, timedelta(minutes=15), timedelta(hours=12))
    sent = [SentMail(T0 + timedelta(minutes=3 * k), False) for k in range(10)]
    assert throttle(1, sent, limits, T0 + timedelta(minutes=31)).mode is SendMode.ALONE


@given(st.booleans(), st.integers(0, 48))
def test_recent_alerts_are_urgent(alert: bool, hours: int) -> None:
    limits = MailLimits(30, timedelta(minutes=15), timedelta(hours=12))
    assert is_urgent(alert, T0 - timedelta(hours=hours), limits, T0) is (alert and hours < 12)
