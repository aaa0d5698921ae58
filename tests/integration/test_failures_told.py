"""Every failure is sent by mail and by webhook, whatever was sent of the case before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corewatch.states import CaseState, DeliveryState, Stage
from tests.integration.test_outputs_webhook import receiver
from tests.support.ledger import Clock
from tests.support.office import Office, open_office
from tests.support.smtp import smtp_server
from worker.tasks import plan_deliveries

TEAM, OPERATORS = "stroke@clinic.example", "it@clinic.example"


def again(office: Office, case_id: str) -> None:
    """An operator retries the delivery."""
    assert office.ledger.cases.retry(case_id) is Stage.RENDER
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert plan_deliveries(office.context, case, {})
    office.work()


@pytest.mark.parametrize("core_ml", [40.0, 3.0])
def test_a_failure_after_a_finding(core_ml: float, tmp_path: Path) -> None:
    with smtp_server() as mailbox, receiver() as hook:
        mailbox.refuse = {TEAM: "550 no such user"}
        settings = {
            "email": {
                "host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "corewatch@clinic.example",
                "to": [TEAM], "operators": [OPERATORS],
            },
            "webhook": {"url": f"http://127.0.0.1:{hook.port}/", "secret": "0123456789abcdef", "not_analysed": True},
        }  # fmt: skip
        office = open_office(tmp_path, Clock(), settings)
        case_id = office.found(core_ml, "webhook", "email")
        office.work()
        office.clock.forward(60)
        again(office, case_id)
        case = office.ledger.cases.get(case_id)
        assert case is not None
        assert case.state is CaseState.FAILED
        mailbox.refuse = {}
        again(office, case_id)
        case = office.ledger.cases.get(case_id)
        assert case is not None
        assert case.state is CaseState.DELIVERED
        first = DeliveryState.SENT if core_ml >= 20 else DeliveryState.SKIPPED
        assert {d.destination: d.state for d in office.ledger.deliveries.of(case_id)} == {
            "webhook": first, "email": DeliveryState.SENT
        }  # fmt: skip
        office.ledger.close()
    told = [(json.loads(body)["type"], headers["webhook-id"]) for headers, body in hook.got]
    result = ["case.result"] if core_ml >= 20 else []
    assert [kind for kind, _ in told] == [*result, *["case.delivery_refused", "case.failed"] * 2], "sent again"
    assert len({identity for _, identity in told}) == len(told), "each is an event of its own"
    assert [(to, "was not accepted" in str(mail["Subject"])) for to, mail in mailbox.mails] == [
        ((OPERATORS,), True), ((OPERATORS,), True), ((TEAM,), False)
    ]  # fmt: skip
    assert len({mail["Message-ID"] for _, mail in mailbox.mails}) == 3


def test_an_alert_after_a_failure(tmp_path: Path) -> None:
    """A stage fails, an operator retries it, and there is an alert: the webhook gets both."""
    with receiver() as hook:
        settings = {"webhook": {"url": f"http://127.0.0.1:{hook.port}/", "secret": "0123456789abcdef", "not_analysed": True}}
        office = open_office(tmp_path, Clock(), settings)
        case_id = office.failed("webhook-notices")
        office.work()
        assert office.ledger.cases.retry(case_id) is Stage.DETECT
        office.find(case_id, 40.0)
        case = office.ledger.cases.get(case_id)
        assert case is not None
        assert plan_deliveries(office.context, case, {})
        office.work()
        office.ledger.close()
    assert [json.loads(body)["type"] for _, body in hook.got] == ["case.failed", "case.result"]
