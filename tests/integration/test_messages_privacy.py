"""A patient's name, number and accession number leave by no message, and are in no line of ledger, log or audit trail."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from corewatch.atna import Site, TrailLine, audit_message
from corewatch.states import DeliveryState
from tests.integration.test_outputs_webhook import receiver
from tests.support.ledger import Clock
from tests.support.office import open_office
from tests.support.results import write_header
from tests.support.smtp import smtp_server

CANARIES = ("Kanarienvogel", "CANARY-4711", "ACC-CANARY", "19310213")


def test_no_message_names_the_patient(tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    with smtp_server() as mailbox, receiver() as hook:
        deliver = {
            "email": {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "a@x.example", "to": ["b@x.example"]},
            "webhook": {"url": f"http://127.0.0.1:{hook.port}/", "secret": "0123456789abcdef", "when": "always"},
            "escalation": [{"after_min": 5, "to": ["c@x.example"]}],
        }
        office = open_office(tmp_path, Clock(), deliver, portal={"url": "https://cw.example"})
        case_id = office.found(40.0, "email", "webhook")
        write_header(
            office.context.folder(case_id).source_header,
            PatientName=CANARIES[0], PatientID=CANARIES[1], AccessionNumber=CANARIES[2], PatientBirthDate=CANARIES[3],
        )  # fmt: skip
        office.work()
        office.clock.forward(400)
        office.ledger.alerts.fire(office.clock())
        office.work()
        assert [d.state for d in office.ledger.deliveries.of(case_id)] == [DeliveryState.SENT] * 3
        lines = list(office.ledger.audit_trail.lines())
        site = Site("cw", "COREWATCH", "h", {})
        audit = [audit_message(TrailLine(line.at, line.event, line.detail, line.case_id, "9.1"), site) or b"" for line in lines]
        office.ledger.close()
    assert len(mailbox.mails) == 2
    assert len(hook.got) == 1
    shown = capsys.readouterr()
    texts = {
        "mails": "".join(mail.as_string() for _, mail in mailbox.mails),
        "bodies": "".join(str(mail.get_body(("plain",))) for _, mail in mailbox.mails),
        "webhook": repr(hook.got),
        "trail": json.dumps([line.to_json() for line in lines]),
        "audit messages": repr(audit),
        "log": caplog.text + shown.out + shown.err,
        "ledger": "".join(path.read_bytes().decode("latin-1") for path in tmp_path.glob("ledger.sqlite*")),
    }
    assert case_id in texts["mails"]
    assert case_id in texts["log"]
    assert case_id in texts["ledger"]
    for where, text in texts.items():
        for canary in CANARIES:
            assert canary not in text, where
