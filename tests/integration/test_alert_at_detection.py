"""An alert is raised when it is found: nothing that fails afterwards silences it, and its mail is sent once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from corewatch.errors import OperatorNeeded
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.messages import Work
from corewatch.states import PIPELINE, CaseState, DeliveryState, Stage
from ledger.cases import Case
from tests.support.ledger import Clock
from tests.support.office import Office, open_office
from tests.support.smtp import Mailbox, smtp_server
from worker.stages.attempts import run_stage
from worker.stages.case_files import FindingRecord
from worker.tasks import ALERT_GRACE, advance

TEAM, SECOND, OPERATORS = "stroke@x.example", "second@x.example", "it@x.example"
DETECT, RENDER = PIPELINE[1], PIPELINE[2]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as made:
        yield made


@pytest.fixture
def office(tmp_path: Path, mailbox: Mailbox) -> Iterator[Office]:
    email = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "c@x.example", "to": [TEAM]}
    made = open_office(
        tmp_path, Clock(), {"email": {**email, "operators": [OPERATORS]}, "escalation": [{"after_min": 10, "to": [SECOND]}]}
    )
    yield made
    made.ledger.close()


def detect(office: Office, core_ml: float) -> str:
    """A case that the stage `detect` has just left."""
    case_id = office._prepared()
    finding = Finding(core_ml, None, Side.LEFT, 0.9, core_ml >= 20, 20.0, False, ModelIdentity("m", "1", "0" * 64))

    def body(_context: Any, case: Case) -> dict[str, Any]:
        FindingRecord(finding, office.clock(), 1.0).write(office.context.folder(case.case_id))
        return {"core_ml": core_ml, "side": "left", "alert": finding.alert}

    run_stage(office.context, case_id, DETECT, body, advance, redelivered=False)
    assert state(office, case_id) is CaseState.DETECTED
    return case_id


def render(office: Office, case_id: str, body: Callable[[Any, Case], dict[str, Any]]) -> None:
    run_stage(office.context, case_id, RENDER, body, advance, redelivered=False)


def draws(office: Office) -> Callable[[Any, Case], dict[str, Any]]:
    def body(_context: Any, case: Case) -> dict[str, Any]:
        folder = office.context.folder(case.case_id)
        folder.summary.write_bytes(b"\x89PNG-page")
        folder.result.write_text("{}")
        return {}

    return body


def fails(_context: Any, _case: Case) -> dict[str, Any]:
    raise OperatorNeeded("no font")


def state(office: Office, case_id: str) -> CaseState:
    case = office.ledger.cases.get(case_id)
    assert case is not None
    return case.state


def mails_to(mailbox: Mailbox, recipient: str) -> list[EmailMessage]:
    return [mail for to, mail in mailbox.mails if to == (recipient,)]


def test_a_finding_is_known_to_the_ledger_before_anything_is_drawn(office: Office) -> None:
    alert, none = detect(office, 47.0), detect(office, 3.0)
    raised = office.ledger.alerts.get(alert)
    assert raised is not None
    [level] = office.ledger.alerts.levels(alert)
    assert level.due_at == office.clock() + timedelta(minutes=10)
    assert office.ledger.alerts.get(none) is None
    assert [d.destination for d in office.ledger.deliveries.of(alert)] == ["email"]
    assert office.ledger.deliveries.of(none) == []
    due = {posted.work for posted in office.ledger.outbox.due(office.clock())}
    assert {Work(Stage.RENDER, alert), Work(Stage.RENDER, none)} <= due
    assert Work(Stage.DELIVER, alert, "email") not in due, "it waits for the page"


def test_the_mail_has_the_page_and_is_sent_once(office: Office, mailbox: Mailbox) -> None:
    case_id = detect(office, 47.0)
    render(office, case_id, draws(office))
    office.work()
    office.work_for(hours=0.1, step_s=10)
    [mail] = mails_to(mailbox, TEAM)
    assert any(part.get_content_type() == "image/png" for part in mail.walk())
    assert state(office, case_id) is CaseState.DELIVERED
    assert [level.due_at for level in office.ledger.alerts.levels(case_id)], "raised once"


@pytest.mark.parametrize("core_ml", [47.0, 3.0])
def test_pages_that_cannot_be_drawn_do_not_silence_an_alert(core_ml: float, office: Office, mailbox: Mailbox) -> None:
    case_id = detect(office, core_ml)
    render(office, case_id, fails)
    assert state(office, case_id) is CaseState.FAILED
    office.clock.forward(ALERT_GRACE.total_seconds())
    office.work()
    alerts = mails_to(mailbox, TEAM)
    assert [("ALERT core 47 mL" in mail["Subject"]) for mail in alerts] == ([True] if core_ml >= 20 else [])
    [notice] = mails_to(mailbox, OPERATORS)
    assert "FAILED" in notice["Subject"]
    # an operator mends the fonts: nobody gets the alert twice
    assert office.ledger.cases.retry(case_id) is Stage.RENDER
    render(office, case_id, draws(office))
    office.work()
    assert state(office, case_id) is CaseState.DELIVERED
    assert len(mails_to(mailbox, TEAM)) == 1


def test_a_stage_that_hangs_or_never_runs_does_not_silence_it_either(office: Office, mailbox: Mailbox) -> None:
    case_id = detect(office, 47.0)
    office.clock.forward(ALERT_GRACE.total_seconds())
    office.work()
    [mail] = mails_to(mailbox, TEAM)
    assert not any(part.get_content_type() == "image/png" for part in mail.walk())
    assert state(office, case_id) is CaseState.DETECTED
    office.clock.forward(600)
    assert office.ledger.alerts.fire(office.clock()) == [(case_id, 1)]
    office.work()
    assert len(mails_to(mailbox, SECOND)) == 1
    render(office, case_id, draws(office))
    office.work()
    assert len(mails_to(mailbox, TEAM)) == 1
    assert {d.destination: d.state for d in office.ledger.deliveries.of(case_id)} == {
        "email": DeliveryState.SENT, "escalation-1": DeliveryState.SENT
    }  # fmt: skip
    assert state(office, case_id) is CaseState.DELIVERED
