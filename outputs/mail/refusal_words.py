"""Words about a destination that did not take a result: which, why, and who has the result all the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from corewatch.destinations import EMAIL, FOLDER, WEBHOOK, alerts_people, gets_results
from corewatch.states import DeliveryState
from outputs.case import DeliveryStatus, ReportedCase

READ_WITHOUT: Final = "This is not a negative result: read the images without it."
"""What readers must know of a case that has no result for them."""

_HAVE: Final = frozenset({DeliveryState.SENT, DeliveryState.AWAITING})
_WAIT: Final = frozenset({DeliveryState.PENDING, DeliveryState.SENDING})


@dataclass(frozen=True, slots=True)
class MailWords:
    """Words of a mail that reports something else than a finding or the lack of one. Free of patient data.

    Attributes
    ----------
    headline, verdict
        For the subject, and for the body.
    problem, advice
        What happened, and what the reader must know.
    rows
        (name, words), before the facts of the case.
    alarm
        Whether an alert has reached nobody of those whom it is for.
    """

    headline: str
    verdict: str
    problem: str
    advice: str
    rows: tuple[tuple[str, str], ...]
    alarm: bool


def refusal_words(case: ReportedCase, refused: DeliveryStatus) -> MailWords:
    """Words about `refused`, from the states of all deliveries of the case."""
    finding, name = case.result.finding, shown_name(refused.destination)
    others = [one for one in case.deliveries if one.destination != refused.destination and _holds_results(one)]
    is_mail = alerts_people(refused.destination)
    alarm = finding is not None and finding.alert and is_mail and not refused.accepted_for
    have = _names(one for one in others if one.state in _HAVE)
    rows = [("Destination", name)]
    if is_mail:
        rows.append(("Accepted for", f"{refused.accepted_for} recipients"))
    rows.append(("Others have it", have or "no"))
    rows += [("Not yet", _with_reason(one)) for one in others if one.state in _WAIT]
    rows += [("Not taken too", _with_reason(one)) for one in others if one.state is DeliveryState.REFUSED]
    rows.append(("Then", f"remove the cause, then `corewatch cases retry {case.case_id}`"))
    outcome = "was not accepted" + (" for everybody" if refused.accepted_for else "") if is_mail else "did not take the result"
    headline = f"{'ALERT NOT DELIVERED: ' if alarm else ''}{name} {outcome}"
    return MailWords(
        headline=headline,
        verdict=headline if alarm else headline[:1].upper() + headline[1:],
        problem=refused.detail or "It gave no reason.",
        advice=_alarm_advice(have) if alarm else advice(case),
        rows=tuple(rows),
        alarm=alarm,
    )


def advice(case: ReportedCase) -> str:
    """What readers of the images must know of a case that has a problem: who has its finding, or that nobody has it."""
    have = _names(one for one in case.deliveries if one.state in _HAVE and _holds_results(one))
    return (
        f"The result is not lost. It has been delivered to: {have}." if case.result.finding is not None and have else READ_WITHOUT
    )


def shown_name(destination: str) -> str:
    """A destination as people know it."""
    known = {EMAIL: "the mail to the stroke team", FOLDER: "the results folder", WEBHOOK: "the webhook"}
    return known.get(destination, destination)


def _alarm_advice(have: str) -> str:
    return f"See that somebody acts on this alert. So far it has been delivered to: {have or 'nobody'}."


def _holds_results(delivery: DeliveryStatus) -> bool:
    return gets_results(delivery.destination) or alerts_people(delivery.destination)


def _names(deliveries: Iterable[DeliveryStatus]) -> str:
    return ", ".join(shown_name(one.destination) for one in deliveries)


def _with_reason(delivery: DeliveryStatus) -> str:
    return shown_name(delivery.destination) + (f" ({delivery.detail})" if delivery.detail else "")
