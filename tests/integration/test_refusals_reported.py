"""A refusal is reported at once, whatever other destinations do; an alert whose mail is refused goes to the next list at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from corewatch import RESEARCH_LABEL
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.states import CaseState, DeliveryState, Stage
from tests.integration.test_outputs_webhook import receiver
from tests.support.attempts import ScriptedDestination
from tests.support.ledger import Clock
from tests.support.office import Office, open_office
from tests.support.smtp import Mailbox, smtp_server
from worker.tasks import plan_deliveries

TEAM, SECOND, THIRD, OPERATORS = "stroke@x.example", "second@x.example", "third@x.example", "it@x.example"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as made:
        yield made


def settings(mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    email = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "c@x.example", "to": [TEAM]}
    return {
        "email": {**email, "operators": [OPERATORS]},
        "escalation": [{"after_min": 30, "to": [SECOND]}, {"after_min": 60, "to": [THIRD]}],
        **more,
    }


def words(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return body.get_content()


def away(name: str) -> ScriptedDestination:
    return ScriptedDestination(name, [RetryLater(f"{name} cannot be reached")] * 10_000)


def mails_to(mailbox: Mailbox, recipient: str) -> list[EmailMessage]:
    return [mail for to, mail in mailbox.mails if to == (recipient,)]


def states(office: Office, case_id: str) -> dict[str, DeliveryState]:
    return {d.destination: d.state for d in office.ledger.deliveries.of(case_id)}


def state(office: Office, case_id: str) -> CaseState:
    case = office.ledger.cases.get(case_id)
    assert case is not None
    return case.state


def test_each_refusal_is_reported_while_another_destination_is_away(tmp_path: Path, mailbox: Mailbox) -> None:
    office = open_office(tmp_path, Clock(), settings(mailbox))
    office.context.destinations["main"] = ScriptedDestination("main", [OperatorNeeded("PACS at h:104 refused 2 of 3 objects")])
    office.context.destinations["backup"] = away("backup")
    case_id = office.found(3.0, "email", "main", "backup")
    office.work()
    [mail] = mails_to(mailbox, OPERATORS)
    assert mail["Subject"] == f"[corewatch] main did not take the result - case {case_id}"
    text = words(mail)
    for expected in (
        "PACS at h:104 refused 2 of 3 objects",
        "the mail to the stroke team",
        "backup (backup cannot",
        RESEARCH_LABEL,
    ):
        assert expected in text
    assert "read the images without it" not in text, "the stroke team has it"
    assert state(office, case_id) is CaseState.DELIVERING
    office.work_for(hours=49, step_s=1800)
    assert state(office, case_id) is CaseState.FAILED
    subjects = [str(mail["Subject"]) for mail in mails_to(mailbox, OPERATORS)]
    assert ["main" in subjects[0], "backup" in subjects[1], len(subjects)] == [True, True, 2], "each once, and no third mail"
    assert "given up" in words(mails_to(mailbox, OPERATORS)[1])


def test_nobody_has_it_is_said_where_it_is_true(tmp_path: Path, mailbox: Mailbox) -> None:
    office = open_office(tmp_path, Clock(), settings(mailbox))
    office.context.destinations["main"] = ScriptedDestination("main", [OperatorNeeded("no")])
    case_id = office.found(3.0, "main")
    office.work()
    [mail] = mails_to(mailbox, OPERATORS)
    assert "read the images without it" in words(mail)
    assert state(office, case_id) is CaseState.FAILED


def test_a_refused_alert_goes_down_the_lists_at_once(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.refuse = {TEAM: "550 no such user", SECOND: "550 no such user either"}
    office = open_office(tmp_path, Clock(), settings(mailbox))
    office.context.destinations["backup"] = away("backup")
    case_id = office.found(47.0, "email", "backup")
    office.work()
    [third] = mails_to(mailbox, THIRD)
    assert "47 mL" in third["Subject"]
    assert "could not be mailed to those before you" in words(third)
    alarms = mails_to(mailbox, OPERATORS)
    assert [("ALERT NOT DELIVERED" in mail["Subject"], mail["Importance"]) for mail in alarms] == [(True, "high")] * 2
    assert "no such user" in words(alarms[0])
    assert "47 mL" in words(alarms[0])
    office.work_for(hours=2)
    assert len(mails_to(mailbox, THIRD)) == 1, "its own time comes once only"
    assert len(mails_to(mailbox, OPERATORS)) == 2
    assert state(office, case_id) is CaseState.DELIVERING


def test_a_list_that_some_have_is_reported_and_not_escalated(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.refuse = {TEAM: "550 no such user"}
    office = open_office(tmp_path, Clock(), settings(mailbox))
    case_id = office.found(47.0, "email", email=(OPERATORS, "duty@x.example"))
    office.work()
    [notice] = [mail for mail in mails_to(mailbox, OPERATORS) if "not accepted" in mail["Subject"]]
    assert "ALERT NOT DELIVERED" not in notice["Subject"]
    assert "not accepted for everybody" in notice["Subject"]
    assert "2 recipients" in words(notice)
    assert mails_to(mailbox, SECOND) == []
    assert "escalation-1" not in states(office, case_id)
    office.clock.forward(1801)
    assert office.ledger.alerts.fire(office.clock()) == [(case_id, 1)], "its time still comes"


def test_an_acknowledged_alert_is_not_escalated(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.refuse = {TEAM: "550 no such user"}
    office = open_office(tmp_path, Clock(), settings(mailbox))
    case_id = office.found(47.0, "email")
    office.ledger.alerts.acknowledge(case_id, "Dr A", "operators")
    office.work()
    assert mails_to(mailbox, SECOND) == []
    assert len(mails_to(mailbox, OPERATORS)) == 1


def test_a_second_refusal_after_a_retry_is_another_mail(tmp_path: Path, mailbox: Mailbox) -> None:
    office = open_office(tmp_path, Clock(), settings(mailbox))
    office.context.destinations["main"] = ScriptedDestination("main", [OperatorNeeded("no"), OperatorNeeded("no"), "26 objects"])
    case_id = office.found(3.0, "main")
    office.work()
    for expected in (CaseState.FAILED, CaseState.DELIVERED):
        office.clock.forward(60)
        assert office.ledger.cases.retry(case_id) is Stage.RENDER
        case = office.ledger.cases.get(case_id)
        assert case is not None
        assert plan_deliveries(office.context, case, {})
        office.work()
        assert state(office, case_id) is expected
    assert len(mails_to(mailbox, OPERATORS)) == 2
    assert len({mail["Message-ID"] for mail in mails_to(mailbox, OPERATORS)}) == 2


def test_a_notice_that_is_late_holds_up_nothing_and_is_skipped_once_it_is_untrue(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.mail_reply = "451 not now"
    office = open_office(tmp_path, Clock(), settings(mailbox))
    office.context.destinations["main"] = ScriptedDestination("main", [OperatorNeeded("no"), "26 objects"])
    case_id = office.found(3.0, "main")
    office.work()
    assert state(office, case_id) is CaseState.FAILED, "the notice is no destination of the result"
    assert states(office, case_id)["refusal-main"] is DeliveryState.PENDING
    assert office.ledger.cases.retry(case_id) is Stage.RENDER
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert plan_deliveries(office.context, case, {})
    mailbox.mail_reply = None
    office.work_for(hours=1)
    assert [str(mail["Subject"]).split(" - ")[0] for _, mail in mailbox.mails] == ["[corewatch] no alert core 3.0 mL left"]
    assert set(states(office, case_id)) == {"main", "email"}


def test_a_night_of_refusals_is_a_digest(tmp_path: Path, mailbox: Mailbox) -> None:
    deliver = settings(mailbox)
    deliver["email"]["max_per_hour"] = 3
    office = open_office(tmp_path, Clock(), deliver)
    office.context.destinations["main"] = ScriptedDestination("main", [OperatorNeeded("it refuses everything")] * 20)
    for _ in range(20):
        office.found(3.0, "main")
    office.work_for(hours=3)
    mails = mails_to(mailbox, OPERATORS)
    assert len(mails) < 8
    text = "".join(words(mail) for mail in mails)
    assert text.count("main did not take the result") >= 20
    digests = [mail for mail in mails if "digest" in mail["Subject"]]
    assert digests
    assert all("read those images without it" not in words(mail) for mail in digests)


def test_the_webhook_is_asked_at_once(tmp_path: Path, mailbox: Mailbox) -> None:
    with receiver() as hook:
        webhook = {"url": f"http://127.0.0.1:{hook.port}/", "secret": "0123456789abcdef", "not_analysed": True}
        mailbox.refuse = {TEAM: "550 no such user"}
        office = open_office(tmp_path, Clock(), settings(mailbox, webhook=webhook))
        office.context.destinations["backup"] = away("backup")
        office.found(47.0, "webhook", "email", "backup")
        office.work()
    got = [(json.loads(body), headers["webhook-id"]) for headers, body in hook.got]
    assert {body["type"] for body, _ in got} == {"case.result", "case.delivery_refused"}
    [refusal] = [body for body, _ in got if body["type"] == "case.delivery_refused"]
    assert (refusal["data"]["refused_by"], refusal["data"]["alert"]) == ("email", True)
    assert len({identity for _, identity in got}) == len(got)


def test_a_refusal_of_an_earlier_version_is_reported_at_the_end(tmp_path: Path, mailbox: Mailbox) -> None:
    office = open_office(tmp_path, Clock(), settings(mailbox))
    case_id = office.found(3.0, "main", "backup")
    office.ledger.deliveries.begin(case_id, "main", lease_s=60)
    office.ledger.deliveries.end(case_id, "main", DeliveryState.REFUSED, detail="no")  # without reporters
    office.context.destinations["backup"] = ScriptedDestination("backup", ["stored"])
    office.work()
    assert state(office, case_id) is CaseState.FAILED
    assert [str(mail["Subject"]).split(" - ")[0] for mail in mails_to(mailbox, OPERATORS)] == [
        "[corewatch] main did not take the result"
    ]
