"""Mails: what they contain, and what they must not."""

from __future__ import annotations

import dataclasses
import hashlib
import html
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from corewatch import RESEARCH_LABEL
from corewatch.cautions import Caution, CautionCode
from corewatch.findings import Side
from outputs.case import ReportedCase
from outputs.mail.case_mail import compose, domain_of, event_key, message_id, templates, thread_id
from tests.support.results import NOW, PATIENT_ID, failed, make_case, not_analysed, with_cautions

PNG = b"\x89PNG\r\n\x1a\n-the-page-"


def mail(case: ReportedCase, **changes: Any) -> EmailMessage:
    how: dict[str, Any] = {
        "sender": "corewatch@clinic.example",
        "recipients": ("stroke@clinic.example",),
        "message_id": "<abc@clinic.example>",
        "sent_at": NOW,
        "summary_png": PNG,
    }
    message = compose(case, **(how | changes))
    parsed = message_from_bytes(message.as_bytes(), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def both(message: EmailMessage) -> tuple[str, str]:
    return part(message, "plain"), part(message, "html")


def test_subject_and_headers(tmp_path: Path) -> None:
    message = mail(make_case(tmp_path))
    assert message["Subject"] == "[corewatch] ALERT core 34 mL left - case k3v9x2mqpt"
    assert message["Message-ID"] == "<abc@clinic.example>"
    assert message["Date"] == "Fri, 20 Nov 2026 09:30:00 +0000"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "OOF, AutoReply"
    assert message["Importance"] == "high"


@pytest.mark.parametrize(
    ("make", "subject", "important"),
    [
        (lambda p: make_case(p, core_ml=3.2, alert=False, side=Side.NONE), "no alert core 3.2 mL side unclear", False),
        (lambda p: not_analysed(make_case(p)), "not analysed", False),
        (lambda p: failed(make_case(p)), "FAILED", True),
    ],
)
def test_other_subjects(make: Any, subject: str, important: bool, tmp_path: Path) -> None:
    message = mail(make(tmp_path))
    assert message["Subject"] == f"[corewatch] {subject} - case k3v9x2mqpt"
    assert (message["Importance"] == "high") is important


@pytest.mark.parametrize(
    ("make", "important", "link_words"),
    [
        (make_case, True, "Acknowledge this alert"),
        (lambda p: make_case(p, core_ml=3.2, alert=False), False, "Open the case"),
        (lambda p: not_analysed(make_case(p)), False, "Open the case"),
        (lambda p: failed(make_case(p)), True, "Open the case"),
        (lambda p: failed(make_case(p, core_ml=3.2, alert=False)), True, "Open the case"),
    ],
)
def test_who_must_act_sees_it(make: Any, important: bool, link_words: str, tmp_path: Path) -> None:
    """Alerts and failures are important. Only a mail with an alert has the red banner and asks for its acknowledgement."""
    case = make(tmp_path)
    message = mail(case, link="https://cw.example/a/x")
    assert (message["Importance"], message["X-Priority"]) == (("high", "1") if important else (None, None))
    assert all(link_words in body for body in both(message))
    assert ("#e66100" in part(message, "html")) is (link_words == "Acknowledge this alert")


def test_the_mail_line_by_line(tmp_path: Path) -> None:
    message = mail(make_case(tmp_path), link="https://cw.example/a/x")
    assert (
        part(message, "plain")
        == """\
ALERT: core at or above 20 mL

Case              k3v9x2mqpt, revision 1
Core volume       34 mL
Placement range   28 to 42 mL
Model's own error not known
Side              patient's LEFT
Alignment         quality 0.93; midline off by 0.2 mm, 0.1°
Model             phantom-demo 1.0 (01234567)  DEMONSTRATION, not trained on patients
Received          2026-11-20 10:17:03 UTC+01:00
Analysed          2026-11-20 10:18:01 UTC+01:00

Acknowledge this alert:
https://cw.example/a/x

Research use only, not for diagnosis.
"""
    )
    assert (message["From"], message["To"]) == ("corewatch@clinic.example", "stroke@clinic.example")
    assert message["X-Corewatch-Case"] == "k3v9x2mqpt; revision=1"
    assert message["X-Corewatch-Repeated"] is None
    assert [line for line in part(message, "html").splitlines() if line.startswith(" ")] == [], "no line of the template shows"


def test_a_case_not_analysed_line_by_line(tmp_path: Path) -> None:
    assert (
        part(mail(not_analysed(make_case(tmp_path)), lead="NOT ACKNOWLEDGED: ", note="It was sent before."), "plain")
        == """\
NOT ACKNOWLEDGED: Not analysed
It was sent before.

The slices are too thick or too far apart. The step between slices is 7.0 mm; at most 5.0 mm is allowed.
This is not a negative result: read the images without it.

Case              k3v9x2mqpt, revision 1
What to do        Send the thinnest reconstruction; 1 mm or less is best.
Received          2026-11-20 10:17:03 UTC+01:00
Decided           2026-11-20 10:18:01 UTC+01:00

Research use only, not for diagnosis.
"""
    )


def test_a_failed_case_tells_no_figures_of_its_finding(tmp_path: Path) -> None:
    for body in both(mail(failed(make_case(tmp_path)))):
        assert not any(words in body for words in ("Core volume", "mL", "LEFT", "phantom-demo"))
        assert "The PACS refused the objects." in body


def test_a_range_that_was_not_computed_is_named_so(tmp_path: Path) -> None:
    assert "Placement range   not computed" in part(mail(make_case(tmp_path, core_ml_interval=None)), "plain")


def test_notes_are_in_the_body(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    case = dataclasses.replace(case, result=dataclasses.replace(case.result, notes=("Two scans in one series.",)))
    assert all("Two scans in one series." in body for body in both(mail(case)))


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("corewatch@clinic.example", "clinic.example"),
        ("Corewatch <corewatch@clinic.example>", "clinic.example"),
        ("a@b@c.example", "c.example"),
        ("broken@", "corewatch.invalid"),
    ],
)
def test_the_domain_of_message_ids_is_the_sender_s(sender: str, domain: str) -> None:
    assert domain_of(sender) == domain


def test_keys_are_128_bits_of_a_hash(tmp_path: Path) -> None:
    """They are kept in the ledger and in mailboxes: another length would make every mail of an update a new one."""
    case = make_case(tmp_path)
    assert event_key(case, "email") == hashlib.sha256(f"{case.case_id}\n1\nemail".encode()).hexdigest()[:32]


def test_the_event_of_an_end_is_its_time(tmp_path: Path) -> None:
    """The mail of a case that failed with a finding names the time of the failure, not of the analysis."""
    case = failed(make_case(tmp_path))
    later = dataclasses.replace(case, ended_at=case.analysed_at + timedelta(minutes=5))
    again = dataclasses.replace(case, ended_at=case.analysed_at + timedelta(minutes=9))
    assert len({event_key(one, "operators") for one in (case, later, again)}) == 3
    moved = dataclasses.replace(later, analysed_at=later.analysed_at + timedelta(minutes=1))
    assert event_key(moved, "operators") == event_key(later, "operators")


def test_a_template_without_its_value_fails(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError):
        templates().from_string("{{ forgotten }}").render()


def test_later_revision_is_in_the_subject(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    later = dataclasses.replace(case, result=dataclasses.replace(case.result, revision=2))
    assert str(mail(later)["Subject"]).endswith("case k3v9x2mqpt, revision 2")


def test_both_bodies_say_it_all(tmp_path: Path) -> None:
    case = make_case(tmp_path, unstable=True)
    for body in both(mail(case)):
        for words in (
            "34 mL",
            "28 to 42 mL",
            "k3v9x2mqpt",
            "phantom-demo 1.0 (01234567)",
            "quality 0.93",
            "2026-11-20 10:17:03",
            RESEARCH_LABEL,
        ):
            assert words in body
        assert "UNSTABLE" in body
        assert "ALERT: core at or above 20 mL" in body
        assert "LEFT" in body


@pytest.mark.parametrize("make", [not_analysed, failed])
def test_bodies_without_a_finding_give_the_reason(make: Any, tmp_path: Path) -> None:
    case = make(make_case(tmp_path))
    plain, html = both(mail(case, summary_png=None))
    for body in (plain, html):
        assert "not a negative result" in body
        assert str(case.problem) in body
        assert "34 mL" not in body
        assert ("Decided" in body, "Analysed" in body) == ((True, False) if case.result.finding is None else (False, True))
    assert plain.startswith(("Not analysed\n", "FAILED\n"))


def test_the_page_is_inside_the_html(tmp_path: Path) -> None:
    message = mail(make_case(tmp_path))
    assert 'src="cid:summary"' in part(message, "html")
    (image,) = [p for p in message.walk() if p.get_content_type() == "image/png"]
    assert image["Content-ID"] == "<summary>"
    assert image.get_content() == PNG
    assert (image.get_filename(), image.get_content_disposition()) == ("summary.png", "inline")
    bare = mail(make_case(tmp_path), summary_png=None)
    assert "cid:" not in part(bare, "html")


def test_no_patient_data_unless_named(tmp_path: Path) -> None:
    raw = compose(
        make_case(tmp_path), sender="a@b.example", recipients=("c@d.example",), message_id="<x@b>", sent_at=NOW, summary_png=PNG
    ).as_string()
    for secret in (PATIENT_ID, "Jörg", "J=C3=B6rg", "19500101", "ACC00042", "1.2.826.0.1"):
        assert secret not in raw


def test_named_patient_fields_are_in_the_body_alone(tmp_path: Path) -> None:
    message = mail(make_case(tmp_path), patient=(("PatientID", PATIENT_ID),))
    assert all(PATIENT_ID in body for body in both(message))
    assert all(PATIENT_ID not in str(value) for value in message.values())


def test_html_is_escaped(tmp_path: Path) -> None:
    html = part(mail(make_case(tmp_path), patient=(("PatientName", "<script>alert(1)</script>"),)), "html")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_message_id_is_the_same_for_a_repeat_and_for_nothing_else(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    later = dataclasses.replace(case, result=dataclasses.replace(case.result, revision=2))
    keys = [event_key(c, purpose) for c in (case, later) for purpose in ("email", "operators")]
    ids = {message_id(key, to, "s@clinic.example") for key in keys for to in ("team", "night")}
    assert len(ids) == 8
    assert keys[0] == event_key(make_case(tmp_path), "email")
    assert all(identity.endswith("@clinic.example>") for identity in ids)


def test_an_end_that_came_again_is_another_event(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path))
    again = dataclasses.replace(case, analysed_at=case.analysed_at + timedelta(minutes=5))
    assert event_key(case, "operators") != event_key(again, "operators")


def test_mails_of_a_study_are_gathered_and_do_not_name_it(tmp_path: Path) -> None:
    key, uid = b"k" * 32, "1.2.826.0.1.1"
    thread = thread_id(uid, key, "s@clinic.example")
    message = mail(make_case(tmp_path), thread=thread)
    assert message["References"] == message["In-Reply-To"] == thread
    assert uid not in message.as_string()
    others = {thread_id("1.2.826.0.1.9", key, "s@clinic.example"), thread_id(uid, b"l" * 32, "s@clinic.example")}
    assert thread not in others
    assert hashlib.sha256(uid.encode()).hexdigest()[:32] not in thread, "a hash without a key could be looked up"


def test_a_link_and_the_mark_of_a_copy(tmp_path: Path) -> None:
    linked = mail(make_case(tmp_path), link="https://cw.example/a/x.y-z", repeated=True)
    assert linked["X-Corewatch-Repeated"] == "yes"
    for body in both(linked):
        assert "https://cw.example/a/x.y-z" in body
        assert "Sent again" in body
    assert all("Nobody of those" in body for body in both(mail(make_case(tmp_path), note="Nobody of those")))
    assert all("Sent again" not in body and "https" not in body for body in both(mail(make_case(tmp_path))))


def test_cautions_are_above_the_figures_and_with_their_remedies_below(tmp_path: Path) -> None:
    noisy = Caution(CautionCode.NOISE, "SD 18 HU")
    for body in both(mail(with_cautions(make_case(tmp_path), noisy))):
        assert body.index("CAUTION: Noisy images: SD 18 HU") < body.index("34 mL")
        assert noisy.remedy in html.unescape(body)


def test_a_haemorrhage_is_subject_and_verdict_and_the_alert_still_goes_out(tmp_path: Path) -> None:
    message = mail(with_cautions(make_case(tmp_path), Caution(CautionCode.DENSE_REGION, "14 mL, patient's LEFT")))
    words = "ALERT: Dense region of 14 mL, patient's LEFT: haemorrhage? The core estimate does not hold"
    assert message["Subject"] == f"[corewatch] {words} - case k3v9x2mqpt"
    assert message["Importance"] == "high"
    assert part(message, "plain").startswith(words + "\n")
    assert "core at or above" not in part(message, "plain")
