"""From the alert's mail to the button, and what happens while nobody presses it: mails, ledger and timer together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from corewatch.states import CaseState, DeliveryState, Stage
from daemon.upkeep.overdue import escalate_alerts
from outputs.links import Links
from tests.support.ledger import Clock
from tests.support.office import Office, open_office
from tests.support.smtp import Mailbox, smtp_server
from worker.tasks import plan_deliveries

TEAM, NEXT, CHIEF = "stroke@clinic.example", "oncall@clinic.example", "chief@clinic.example"
URL = "https://corewatch.clinic.example"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as running:
        yield running


@pytest.fixture
def office(tmp_path: Path, mailbox: Mailbox) -> Iterator[Office]:
    email: dict[str, Any] = {
        "host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "corewatch@clinic.example", "to": [TEAM],
    }  # fmt: skip
    levels = [{"after_min": 10, "to": [NEXT]}, {"after_min": 25, "to": [CHIEF, NEXT]}]
    opened = open_office(tmp_path, Clock(), {"email": email, "escalation": levels}, portal={"url": URL})
    yield opened
    opened.ledger.close()


def go_on(office: Office, minutes: int) -> None:
    for _ in range(minutes):
        office.clock.forward(60)
        escalate_alerts(office.ledger, office.clock())
        office.work()


def told(mailbox: Mailbox) -> list[tuple[str, ...]]:
    return [recipients for recipients, _ in mailbox.mails]


def test_nobody_acknowledges(office: Office, mailbox: Mailbox) -> None:
    case_id = office.found(40.0, "email")
    office.found(3.0, "email")
    office.work()
    go_on(office, 60)
    assert told(mailbox) == [(TEAM,), (TEAM,), (NEXT,), (CHIEF, NEXT)]
    last = mailbox.mails[-1][1]
    assert str(last["Subject"]) == f"[corewatch] NOT ACKNOWLEDGED: ALERT core 40 mL left - case {case_id}"
    assert last["References"] == mailbox.mails[0][1]["References"]
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERED
    assert {d.destination: d.state for d in office.ledger.deliveries.of(case_id)} == {
        "email": DeliveryState.SENT, "escalation-1": DeliveryState.SENT, "escalation-2": DeliveryState.SENT
    }  # fmt: skip


def test_an_alert_stands_when_another_destination_refuses_the_result(office: Office, mailbox: Mailbox) -> None:
    case_id = office.found(40.0, "email", "not-in-the-settings")
    office.work()
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.FAILED
    go_on(office, 30)
    escalated = [mail for _, mail in mailbox.mails if "NOT ACKNOWLEDGED" in str(mail["Subject"])]
    assert len(escalated) == 2
    for mail in escalated:
        assert str(mail["Subject"]) == f"[corewatch] NOT ACKNOWLEDGED: ALERT core 40 mL left - case {case_id}"
        body = mail.get_body(("plain",))
        assert body is not None
        for words in ("patient's LEFT", "40 mL", "Acknowledge this alert", "Nobody who was alerted before"):
            assert words in body.get_content()


def test_a_case_started_anew_is_not_held_up_by_a_destination_that_is_gone(office: Office) -> None:
    case_id = office.found(3.0, "email", "not-in-the-settings")
    office.work()
    assert office.ledger.cases.retry(case_id) is Stage.RENDER
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert plan_deliveries(office.context, case, {})
    office.work()
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert case.state is CaseState.DELIVERED
    states = {d.destination: d.state for d in office.ledger.deliveries.of(case_id)}
    assert states == {"email": DeliveryState.SENT, "not-in-the-settings": DeliveryState.SKIPPED}


def test_the_link_in_the_mail_stops_it(office: Office, mailbox: Mailbox) -> None:
    case_id = office.found(40.0, "email")
    office.work()
    go_on(office, 11)
    body = mailbox.mails[0][1].get_body(("plain",))
    assert body is not None
    link = re.search(rf"{URL}/a/(\S+)", body.get_content())
    assert link is not None
    portal = office.context.settings.portal
    assert portal is not None
    holder = Links(portal.link_key(office.context.settings.data_dir)).read(link[1], timedelta(days=1))
    assert holder is not None
    assert (holder.case_id, holder.recipients) == (case_id, "team")
    office.ledger.alerts.acknowledge(holder.case_id, "Dr. Brandt", holder.recipients)
    go_on(office, 60)
    assert told(mailbox) == [(TEAM,), (NEXT,)]


def test_acknowledged_while_the_mail_server_is_away(office: Office, mailbox: Mailbox) -> None:
    """The escalation is a delivery already, and waits for another try."""
    case_id = office.found(40.0, "email")
    office.work()
    mailbox.mail_reply = "451 away"
    go_on(office, 12)
    office.ledger.alerts.acknowledge(case_id, "Dr. Brandt", "team")
    mailbox.mail_reply = None
    go_on(office, 60)
    assert told(mailbox) == [(TEAM,)]
    states = {d.destination: (d.state, d.detail) for d in office.ledger.deliveries.of(case_id)}
    assert states["escalation-1"] == (DeliveryState.SKIPPED, "the alert was acknowledged")


def test_an_alert_that_could_not_be_mailed_is_escalated(office: Office, mailbox: Mailbox) -> None:
    mailbox.refuse = {TEAM: "550 no such user"}
    office.found(40.0, "email")
    office.work()
    go_on(office, 11)
    assert told(mailbox) == [(NEXT,)]


def test_a_later_revision_ends_it(office: Office, mailbox: Mailbox) -> None:
    case_id = office.found(40.0, "email")
    office.work()
    office.ledger.cases.advance(case_id, CaseState.DELIVERED, CaseState.SUPERSEDED)
    go_on(office, 60)
    assert told(mailbox) == [(TEAM,)]
