"""What hours without a mail server, or much trouble at once, end in: alerts alone, the rest in a digest, everybody told once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corewatch.mail_receipts import MailReceiptState
from corewatch.states import CaseState, DeliveryState, Stage
from ledger.cases import Case
from outputs.case import ReportedCase
from tests.support.ledger import Clock
from tests.support.office import Office, open_office
from tests.support.results import PATIENT_ID
from tests.support.smtp import Mailbox, smtp_server
from worker.context import WorkerContext
from worker.delivery import digests, reporting
from worker.tasks import plan_deliveries


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as running:
        yield running


@pytest.fixture
def office(tmp_path: Path, mailbox: Mailbox) -> Iterator[Office]:
    email: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": mailbox.port,
        "security": "none",
        "from": "corewatch@clinic.example",
        "to": ["stroke@clinic.example", "duty@clinic.example"],
        "operators": ["it@clinic.example"],
        "max_per_hour": 6,
    }
    opened = open_office(tmp_path, Clock(), {"email": email})
    yield opened
    opened.ledger.close()


def ids_in(mailbox: Mailbox, ids: list[str]) -> list[tuple[str, bool]]:
    """(case id, in a digest) as often as a mail names it in its subject or in a digest's list."""
    named = []
    for _, message in mailbox.mails:
        digest = "digest" in str(message["Subject"])
        body = message.get_body(("plain",))
        assert body is not None
        text = body.get_content() if digest else str(message["Subject"])
        named += [(word, digest) for word in re.findall(r"[a-z0-9]{10,}", text) if word in ids]
    return named


def sent(office: Office, ids: list[str], name: str) -> list[DeliveryState]:
    return [d.state for case in ids for d in office.ledger.deliveries.of(case) if d.destination == name]


def test_an_outage_ends_in_the_alerts_and_one_digest(office: Office, mailbox: Mailbox) -> None:
    mailbox.mail_reply = "451 the mail server is away"
    old_alert = office.found(44.0, "email")
    office.clock.forward(14 * 3600)
    calm = [office.found(3.0 + k, "email") for k in range(8)]
    alerts = [office.found(30.0 + k, "email") for k in range(2)]
    office.work_for(1, step_s=1200)
    assert mailbox.mails == []
    mailbox.mail_reply = None
    office.work_for(1, step_s=240)
    everything = [old_alert, *calm, *alerts]
    assert sorted(name for name, _ in ids_in(mailbox, everything)) == sorted(everything), "each case is mailed once"
    assert {name for name, digest in ids_in(mailbox, everything) if not digest} == set(alerts), "recent alerts, each alone"
    subjects = [str(message["Subject"]) for _, message in mailbox.mails]
    assert len(subjects) == 3
    assert sum("digest" in subject for subject in subjects) == 1
    assert next(s for s in subjects if "digest" in s) == "[corewatch] digest of 9 cases: 1 ALERT, 8 without alert"
    assert sent(office, everything, "email") == [DeliveryState.SENT] * 11
    assert all(case.state is CaseState.DELIVERED for case in office.ledger.cases.find())


def test_trouble_without_end_stays_bounded(office: Office, mailbox: Mailbox) -> None:
    ids = []
    for _ in range(40):
        ids.append(office.not_analysed())
        office.work()
        office.clock.forward(60)
    office.work_for(2, step_s=300)
    assert sorted(name for name, _ in ids_in(mailbox, ids)) == sorted(ids)
    assert len(mailbox.mails) <= 12
    assert all(recipients == ("it@clinic.example",) for recipients, _ in mailbox.mails)
    text = mailbox.mails[-1][1].as_string()
    assert "fewer" in text or "too few slices" in " ".join(text.split())
    assert PATIENT_ID not in text
    assert sent(office, ids, "operators") == [DeliveryState.SENT] * 40


def test_an_alert_passes_a_crowd_of_results(office: Office, mailbox: Mailbox) -> None:
    for _ in range(9):
        office.found(3.0, "email")
    alert = office.found(40.0, "email")
    office.work()
    assert alert in str(mailbox.mails[0][1]["Subject"]), "before the digest"
    assert len(mailbox.mails) == 2
    office.found(4.0, "email")
    later = office.found(41.0, "email")
    office.work()
    assert later in str(mailbox.mails[2][1]["Subject"]), "although a digest has just gone out"
    assert len(mailbox.mails) == 3


def test_a_digest_that_died_is_gone_on_with(office: Office, mailbox: Mailbox) -> None:
    """The worker vanishes after the server took the digest and before the ledger knew: a copy, marked, the same content."""
    ids = [office.found(3.0, "email") for _ in range(9)]
    real, calls = office.ledger.mail_receipts.end, []

    class Gone(BaseException):
        pass

    def vanish(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise Gone

    office.ledger.mail_receipts.end = vanish  # type: ignore[method-assign]  # the process ends at this very line
    with pytest.raises(Gone):
        office.work()
    office.ledger.mail_receipts.end = real  # type: ignore[method-assign]
    office.found(5.0, "email")
    office.clock.forward(3600)
    for overdue in office.ledger.deliveries.overdue(office.clock()):
        office.ledger.deliveries.repost(overdue)
    office.work_for(0.5, step_s=300)
    first, copy = (m for _, m in mailbox.mails if "digest of 9 cases" in str(m["Subject"]))
    assert first["Message-ID"] == copy["Message-ID"]
    assert copy["X-Corewatch-Repeated"] == "yes"
    assert sent(office, ids, "email") == [DeliveryState.SENT] * 9
    assert len(calls) == 1


def test_a_case_that_was_superseded_is_not_in_the_digest(office: Office, mailbox: Mailbox) -> None:
    mailbox.mail_reply = "451 away"
    ids = [office.found(3.0, "email") for _ in range(9)]
    office.work()
    case = office.ledger.cases.get(ids[0])
    assert case is not None
    office.ledger.cases.advance(ids[0], case.state, CaseState.SUPERSEDED)
    mailbox.mail_reply = None
    office.work_for(0.5, step_s=300)
    assert sorted(name for name, _ in ids_in(mailbox, ids)) == sorted(ids[1:])


TEAM, DUTY = "stroke@clinic.example", "duty@clinic.example"


def heard(mailbox: Mailbox, recipient: str, ids: list[str]) -> list[str]:
    """Cases that a mailbox got, one entry per mail."""
    return [name for to, message in mailbox.mails if recipient in to for name, _ in ids_in(Mailbox(mails=[(to, message)]), ids)]


def again(office: Office, case_id: str) -> None:
    """An operator retries the delivery of a failed case."""
    assert office.ledger.cases.retry(case_id) is Stage.RENDER
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert plan_deliveries(office.context, case, {})


def test_a_refused_mailbox_holds_up_only_what_it_was_to_hear_of(office: Office, mailbox: Mailbox) -> None:
    mailbox.refuse = {"ward@x.example": "550 no such user"}
    calm = [office.found(3.0, "email") for _ in range(8)]
    ward = [office.found(3.0, "email", email=("ward@x.example",)) for _ in range(2)]
    office.work()
    assert sent(office, calm, "email") == [DeliveryState.SENT] * 8
    assert sent(office, ward, "email") == [DeliveryState.REFUSED] * 2
    assert sorted(heard(mailbox, TEAM, calm + ward)) == sorted(calm + ward)
    (detail,) = {d.detail for d in office.ledger.deliveries.of(ward[0]) if d.destination == "email"}
    assert "ward@x.example: 550" in detail


def test_who_was_refused_is_told_when_the_cases_are_started_anew_and_nobody_twice(office: Office, mailbox: Mailbox) -> None:
    mailbox.refuse = {DUTY: "550 mailbox full"}
    ids = [office.found(3.0, "email") for _ in range(9)]
    office.work()
    assert sent(office, ids, "email") == [DeliveryState.REFUSED] * 9
    assert sorted(heard(mailbox, TEAM, ids)) == sorted(ids)
    mailbox.refuse = {}
    again(office, ids[0])
    office.work_for(2, step_s=300)
    for case_id in ids[1:]:
        again(office, case_id)
    office.work_for(2, step_s=300)
    assert sent(office, ids, "email") == [DeliveryState.SENT] * 9
    for mailbox_of in (TEAM, DUTY):
        assert sorted(heard(mailbox, mailbox_of, ids)) == sorted(ids), mailbox_of
    assert len([1 for to, _ in mailbox.mails if to == (DUTY,)]) <= 4, "in a digest again"


def test_who_is_refused_for_now_gets_the_digest_later_and_the_others_once(office: Office, mailbox: Mailbox) -> None:
    mailbox.refuse = {DUTY: "450 greylisted"}
    ids = [office.found(3.0, "email") for _ in range(9)]
    office.work()
    assert sent(office, ids, "email") == [DeliveryState.PENDING] * 9
    mailbox.refuse = {}
    office.work_for(1, step_s=60)
    assert sent(office, ids, "email") == [DeliveryState.SENT] * 9
    for mailbox_of in (TEAM, DUTY):
        assert sorted(heard(mailbox, mailbox_of, ids)) == sorted(ids), mailbox_of
    first, second = (message for _, message in mailbox.mails)
    assert first["Message-ID"] == second["Message-ID"]
    assert second["X-Corewatch-Repeated"] is None, "it is no copy for whom it is the first"


def test_the_ledger_says_of_each_case_who_heard_of_it_by_a_digest(office: Office, mailbox: Mailbox) -> None:
    ids = [office.found(3.0, "email") for _ in range(9)]
    office.work()
    ((_, message),) = mailbox.mails
    for case_id in ids:
        rows = office.ledger.mail_receipts.of(case_id)
        assert {(row.recipient, row.state, row.message_id) for row in rows} == {
            (to, MailReceiptState.ACCEPTED, message["Message-ID"]) for to in (TEAM, DUTY)
        }
        events = [line.event for line in office.ledger.cases.history(case_id)]
        assert events.count("letter.accepted") == 1


@pytest.mark.parametrize("damage", ["torn", None])
def test_a_case_whose_folder_is_damaged_holds_up_no_digest(damage: str | None, office: Office, mailbox: Mailbox) -> None:
    ids = [office.found(3.0, "email") for _ in range(9)]
    finding = office.context.folder(ids[4]).finding
    finding.unlink() if damage is None else finding.write_text(damage)
    office.work_for(0.2, step_s=60)
    others = [name for name in ids if name != ids[4]]
    assert sent(office, others, "email") == [DeliveryState.SENT] * 8
    assert sorted(heard(mailbox, TEAM, ids)) == sorted(others)
    assert sent(office, ids[4:5], "email") == [DeliveryState.REFUSED]
    case = office.ledger.cases.get(ids[4])
    assert case is not None
    assert case.state is CaseState.FAILED
    assert heard(mailbox, "it@clinic.example", ids) == ids[4:5], "it is in front of an operator"


def test_a_case_that_cannot_be_told_of_holds_up_no_digest(
    office: Office, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own, with one case alone: the others go out, and after the usual attempts it is an operator's."""
    ids = [office.found(3.0, "email") for _ in range(9)]
    real = reporting.report_case

    def reported(context: WorkerContext, case: Case) -> ReportedCase:
        if case.case_id == ids[4] and case.state is CaseState.DELIVERING:
            raise RuntimeError
        return real(context, case)

    monkeypatch.setattr(reporting, "report_case", reported)
    monkeypatch.setattr(digests, "report_case", reported)
    office.work_for(0.2, step_s=60)
    others = [name for name in ids if name != ids[4]]
    assert sent(office, others, "email") == [DeliveryState.SENT] * 8
    assert sorted(heard(mailbox, TEAM, ids)) == sorted(others)
    office.work_for(24, step_s=1800)
    assert sent(office, ids[4:5], "email") == [DeliveryState.REFUSED]
    assert heard(mailbox, "it@clinic.example", ids) == ids[4:5]
