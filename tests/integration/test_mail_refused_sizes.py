"""An alert is never lost to a size limit or a content filter: real SMTP server on loopback, which takes plain text only."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.delivery import EmailSettings
from corewatch import RESEARCH_LABEL
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.mail_receipts import MOST_COPIES, MailReceiptState
from outputs.case import ReportedCase
from outputs.destinations import DestinationContext
from outputs.destinations.email import EmailDestination
from outputs.mail.operator_notice import disk_full_notice, send_notice
from outputs.mail.receipts import MemoryMailReceipts
from outputs.mail.reduced import reduction_may_help
from outputs.mail.smtp import Refusal, RefusedStep
from tests.support.proxy import Cut, Passage, proxy
from tests.support.results import clock, make_case
from tests.support.smtp import Mailbox, smtp_server

TEAM = ("stroke@clinic.example", "duty@clinic.example")


def destination(port: int, receipts: MemoryMailReceipts, **changes: object) -> EmailDestination:
    how = {"host": "127.0.0.1", "port": port, "security": "none", "timeout_s": 5.0, "sender": "corewatch@clinic.example"}
    return EmailDestination(
        EmailSettings.model_validate(how | {"to": TEAM} | changes), DestinationContext(clock, receipts=receipts)
    )


@pytest.fixture
def alert(tmp_path: Path) -> ReportedCase:
    case = make_case(tmp_path / "case", core_ml=47.0, alert=True)
    case.folder.summary.write_bytes(b"\x89PNG" + bytes(200_000))
    return case


def words_of(message: EmailMessage) -> str:
    assert message.get_content_type() == "text/plain"
    text: str = message.get_content()
    return text


def check_one_plain_mail(mailbox: Mailbox, receipts: MemoryMailReceipts, to: EmailDestination, alert: ReportedCase) -> str:
    """Everybody has the alert once, in words, and a further attempt sends nothing."""
    [(recipients, message)] = mailbox.mails
    assert recipients == TEAM
    assert "ALERT" in message["Subject"]
    assert message["Importance"] == "high"
    words = words_of(message)
    assert "47" in words
    assert RESEARCH_LABEL in words
    assert {receipt.state for receipt in receipts.known(to.event(alert)).values()} == {MailReceiptState.ACCEPTED}
    to.deliver(alert)
    assert len(mailbox.mails) == 1
    return words


@pytest.mark.parametrize(
    "reply",
    [
        "552 5.3.4 message too big for system",
        "552 too much mail data",
        "452 4.3.4 larger than it may be",
        "550 5.2.3 longer than this mailbox allows",
        "554 5.6.0 attachments are not allowed here",
        "550 5.7.1 rejected by the content filter",
    ],
)
def test_a_refused_picture_is_left_out_in_the_same_attempt(alert: ReportedCase, reply: str) -> None:
    receipts = MemoryMailReceipts()
    with smtp_server() as mailbox:
        mailbox.judge = lambda message: reply if message.is_multipart() else None
        to = destination(mailbox.port, receipts)
        delivered = to.deliver(alert)
        words = check_one_plain_mail(mailbox, receipts, to, alert)
    assert reply in words
    assert "no picture" in words
    assert f"without the picture ({reply})" in delivered.detail
    assert len(mailbox.sizes) == 2


def test_a_declared_limit_is_kept_without_trying(alert: ReportedCase) -> None:
    receipts = MemoryMailReceipts()
    with smtp_server(size=50_000) as mailbox:
        to = destination(mailbox.port, receipts)
        assert "50000 bytes at most" in to.deliver(alert).detail
        check_one_plain_mail(mailbox, receipts, to, alert)
    assert len(mailbox.sizes) == 1


def test_a_server_that_declares_no_limit_gets_the_picture(alert: ReportedCase) -> None:
    with smtp_server(size=0) as mailbox:
        destination(mailbox.port, MemoryMailReceipts()).deliver(alert)
    assert [message.is_multipart() for _, message in mailbox.mails] == [True]


def test_what_no_shorter_mail_can_help_is_refused_once(alert: ReportedCase) -> None:
    with smtp_server() as mailbox:
        mailbox.refuse = dict.fromkeys(TEAM, "550 5.1.1 no such user")
        with pytest.raises(OperatorNeeded, match="no such user"):
            destination(mailbox.port, MemoryMailReceipts()).deliver(alert)
        mailbox.refuse, mailbox.data_reply = {}, "451 4.7.1 greylisted"
        with pytest.raises(RetryLater, match="greylisted"):
            destination(mailbox.port, MemoryMailReceipts()).deliver(alert)
    assert mailbox.mails == []


def test_a_server_that_refuses_plain_text_too_is_reported_with_its_last_words(alert: ReportedCase) -> None:
    receipts = MemoryMailReceipts()
    with smtp_server() as mailbox:
        mailbox.judge = lambda message: "554 no" if message.is_multipart() else "554 not even that"
        to = destination(mailbox.port, receipts)
        with pytest.raises(OperatorNeeded, match="not even that"):
            to.deliver(alert)
        assert len(mailbox.sizes) == 2
    known = receipts.known(to.event(alert))
    assert {(receipt.state, receipt.copies) for receipt in known.values()} == {(MailReceiptState.REFUSED, 0)}


def test_a_server_that_hangs_up_after_its_refusal(alert: ReportedCase) -> None:
    """The plain mail needs a new connection."""
    receipts, refused = MemoryMailReceipts(), list[int]()

    def hang_up(passage: Passage, data: bytes) -> bytes:
        if data.upper().startswith(b"RSET") and passage.number not in refused:
            refused.append(passage.number)
            raise Cut
        return data

    with smtp_server() as mailbox, proxy(mailbox.port, hang_up) as between:
        mailbox.judge = lambda message: "552 5.3.4 too large" if message.is_multipart() else None
        to = destination(between.port, receipts)
        to.deliver(alert)
        check_one_plain_mail(mailbox, receipts, to, alert)
    assert refused == [0]


def test_a_filter_that_breaks_off_at_pictures_gets_the_last_copy_in_words(alert: ReportedCase) -> None:
    receipts = MemoryMailReceipts()

    def break_off(_passage: Passage, data: bytes) -> bytes:
        if b"image/png" in data:
            raise Cut
        return data

    with smtp_server() as mailbox, proxy(mailbox.port, break_off) as between:
        to = destination(between.port, receipts)
        for _ in range(MOST_COPIES - 1):
            with pytest.raises(RetryLater):
                to.deliver(alert)
        to.deliver(alert)
        words = check_one_plain_mail(mailbox, receipts, to, alert)
    assert "the connection broke off" in words


@given(code=st.integers(400, 599), step=st.sampled_from(RefusedStep), words=st.sampled_from(["", "no", "5.1.1 no", "4.2.0 full"]))
def test_when_a_shorter_mail_may_help(code: int, step: RefusedStep, words: str) -> None:
    helps = reduction_may_help(Refusal("a@b.example", code, words, step))
    assert helps == (code == 552 or (step is RefusedStep.CONTENT and code >= 500))
    assert reduction_may_help(Refusal("a@b.example", code, "5.3.4 too big", step))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"operators": ("ops@clinic.example",)}, ("ops@clinic.example",)),
        ({}, TEAM),
        (
            {"to": (), "lists": [{"name": "duty", "to": ["a@clinic.example", "b@clinic.example"]}]},
            ("a@clinic.example", "b@clinic.example"),
        ),
    ],
)
def test_a_notice_about_the_site_reaches_somebody(changes: dict[str, object], expected: tuple[str, ...]) -> None:
    how = {"host": "127.0.0.1", "security": "none", "timeout_s": 5.0, "sender": "corewatch@clinic.example", "to": TEAM}
    with smtp_server() as mailbox:
        settings = EmailSettings.model_validate(how | {"port": mailbox.port} | changes)
        assert send_notice(settings, disk_full_notice("0.1 GiB are free"))
    assert [recipients for recipients, _ in mailbox.mails] == [expected]
