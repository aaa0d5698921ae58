"""Mails through a real SMTP server on loopback."""

from __future__ import annotations

import dataclasses
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from config.delivery import EmailSettings, MailList
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.mail_receipts import MailReceiptState
from outputs.destinations import DestinationContext
from outputs.destinations.email import EmailDestination, OperatorsDestination
from outputs.mail.receipts import MailReceipts, MemoryMailReceipts
from tests.support.proxy import Cut, Passage, proxy
from tests.support.results import PATIENT_ID, clock, make_case, not_analysed
from tests.support.smtp import PASSWORD, USER, smtp_server
from tests.support.storage import Certificates, make_certificates

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

TEAM = ("stroke@clinic.example", "duty@clinic.example")
FROM = "corewatch@clinic.example"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


def mail_settings(port: int, **changes: Any) -> EmailSettings:
    how: dict[str, Any] = {"host": "127.0.0.1", "port": port, "security": "none", "timeout_s": 5.0, "sender": FROM, "to": TEAM}
    return EmailSettings.model_validate(how | changes)


def team(port: int, *, receipts: MailReceipts | None = None, **changes: Any) -> EmailDestination:
    context = DestinationContext(clock=clock) if receipts is None else DestinationContext(clock=clock, receipts=receipts)
    return EmailDestination(mail_settings(port, **changes), context)


def test_one_message_per_list(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", recipients=("lab@clinic.example", TEAM[0]))
    with smtp_server() as mailbox:
        delivered = team(mailbox.port).deliver(case)
    assert [recipients for recipients, _ in mailbox.mails] == [TEAM, ("lab@clinic.example",)]
    assert len({message["Message-ID"] for _, message in mailbox.mails}) == 2
    assert "3 recipients" in delivered.detail
    assert delivered.at == clock()


def test_the_summary_page_is_in_the_mail(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    case.folder.summary.write_bytes(b"\x89PNG-page")
    with smtp_server() as mailbox:
        team(mailbox.port).deliver(case)
    ((_, message),) = mailbox.mails
    (image,) = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert image.get_payload(decode=True) == b"\x89PNG-page"


def test_patient_fields_only_where_named(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    with smtp_server() as mailbox:
        team(mailbox.port).deliver(case)
        team(mailbox.port, to=("other@clinic.example",), patient_fields=("PatientID",)).deliver(case)
    without, with_id = (message.as_string() for _, message in mailbox.mails)
    assert PATIENT_ID not in without
    assert PATIENT_ID in with_id
    assert "Jörg" not in with_id
    assert PATIENT_ID not in str(mailbox.mails[1][1]["Subject"])


def test_starttls_with_a_user(tmp_path: Path, certificates: Certificates) -> None:
    case = make_case(tmp_path / "case")
    secure = {"security": "starttls", "authority": certificates.authority, "user": USER, "password": PASSWORD}
    with smtp_server(tls=certificates.server_context(mutual=False), auth=True) as mailbox:
        to = team(mailbox.port, **secure)
        to.check()
        to.deliver(case)
    assert len(mailbox.mails) == 1
    assert mailbox.encrypted == [True]


def test_tls_from_the_first_byte(tmp_path: Path, certificates: Certificates) -> None:
    with smtp_server(tls=certificates.server_context(mutual=False), implicit=True) as mailbox:
        team(mailbox.port, security="tls", authority=certificates.authority).deliver(make_case(tmp_path / "case"))
    assert len(mailbox.mails) == 1


def test_a_stranger_s_certificate_gets_no_mail(tmp_path: Path, certificates: Certificates) -> None:
    other = make_certificates(tmp_path / "other")
    to_a_stranger = smtp_server(tls=certificates.server_context(mutual=False))
    with to_a_stranger as mailbox, pytest.raises(OperatorNeeded, match=r"certificate .* cannot be trusted"):
        team(mailbox.port, security="starttls", authority=other.authority).deliver(make_case(tmp_path / "case"))
    assert mailbox.mails == []


def test_a_certificate_of_another_name_gets_no_mail(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its authority is trusted, but it was made for localhost."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    with smtp_server(tls=certificates.server_context(mutual=False)) as mailbox:
        to = team(mailbox.port, host="mail.clinic.example", security="starttls", authority=certificates.authority)
        with pytest.raises(OperatorNeeded, match=r"certificate .* cannot be trusted"):
            to.deliver(make_case(tmp_path / "case"))
        team(mailbox.port, host="localhost", authority=certificates.authority, security="starttls").deliver(
            make_case(tmp_path / "right name")
        )
    assert mailbox.encrypted == [True]


def strip_starttls(_passage: Passage, data: bytes) -> bytes:
    return re.sub(rb"250([- ])STARTTLS", rb"250\1X-NOTHING", data)


def test_starttls_that_is_stripped_on_the_way_gets_neither_mail_nor_password(tmp_path: Path, certificates: Certificates) -> None:
    said = bytearray()

    def listen(_passage: Passage, data: bytes) -> bytes:
        said.extend(data)
        return data

    secure = {"security": "starttls", "authority": certificates.authority, "user": USER, "password": PASSWORD}
    with (
        smtp_server(tls=certificates.server_context(mutual=False), auth=True) as mailbox,
        proxy(mailbox.port, listen, strip_starttls) as between,
    ):
        team(mailbox.port, **secure).deliver(make_case(tmp_path / "undisturbed"))
        with pytest.raises(OperatorNeeded, match=r"deliver\.email"):
            team(between.port, **secure).deliver(make_case(tmp_path / "case"))
    assert len(mailbox.mails) == 1
    assert b"ehlo" in bytes(said).lower()
    assert b"AUTH" not in said
    assert b"MAIL" not in said


def test_starttls_never_falls_back_to_clear_text(tmp_path: Path) -> None:
    with smtp_server() as mailbox, pytest.raises(OperatorNeeded, match=r"deliver\.email"):
        team(mailbox.port, security="starttls").deliver(make_case(tmp_path / "case"))
    assert mailbox.mails == []


def test_tls_on_a_clear_port_is_for_the_operator(tmp_path: Path) -> None:
    with smtp_server() as mailbox, pytest.raises(OperatorNeeded, match=r"deliver\.email\.security and port"):
        team(mailbox.port, security="tls").deliver(make_case(tmp_path / "case"))


def test_wrong_password_is_for_the_operator_and_is_not_shown(tmp_path: Path) -> None:
    with smtp_server(auth=True) as mailbox:
        to = team(mailbox.port, user=USER, password="wrong-one")
        with pytest.raises(OperatorNeeded, match="user and password") as caught:
            to.deliver(make_case(tmp_path / "case"))
        with pytest.raises(OperatorNeeded, match="user and password"):
            to.check()
    assert "wrong-one" not in str(caught.value)
    assert "wrong-one" not in repr(mail_settings(25, password="wrong-one"))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"data_reply": "452 insufficient storage"}, RetryLater),
        ({"data_reply": "554 content refused"}, OperatorNeeded),
        ({"mail_reply": "451 try later"}, RetryLater),
        ({"mail_reply": "550 sender refused"}, OperatorNeeded),
        ({"refuse": dict.fromkeys(TEAM, "450 greylisted")}, RetryLater),
        ({"refuse": dict.fromkeys(TEAM, "550 no such user")}, OperatorNeeded),
    ],
)
def test_refusals_are_sorted_by_their_code(fault: dict[str, Any], error: type[Exception], tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    with smtp_server() as mailbox:
        for name, value in fault.items():
            setattr(mailbox, name, value)
        with pytest.raises(error):
            team(mailbox.port).deliver(case)
        assert mailbox.mails == []
        for name in fault:
            setattr(mailbox, name, {} if name == "refuse" else None)
        team(mailbox.port).deliver(case)
        assert [recipients for recipients, _ in mailbox.mails] == [TEAM]


@pytest.mark.parametrize(("reply", "error"), [("450 greylisted", RetryLater), ("550 no such user", OperatorNeeded)])
def test_partly_refused_reaches_the_others_once(reply: str, error: type[Exception], tmp_path: Path) -> None:
    """The repeat goes to the one who lacks it, under the same Message-ID, and to nobody else."""
    case = make_case(tmp_path / "case")
    receipts = MemoryMailReceipts()
    with smtp_server() as mailbox:
        mailbox.refuse = {TEAM[1]: reply}
        with pytest.raises(error, match=TEAM[1]):
            team(mailbox.port, receipts=receipts).deliver(case)
        mailbox.refuse = {}
        team(mailbox.port, receipts=receipts).deliver(case)
        again = team(mailbox.port, receipts=receipts).deliver(case)
    assert [recipients for recipients, _ in mailbox.mails] == [TEAM[:1], TEAM[1:]]
    assert len({message["Message-ID"] for _, message in mailbox.mails}) == 1
    assert "already" in again.detail


def test_a_dead_server_is_retried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    to = team(port)
    with pytest.raises(RetryLater, match="cannot be reached"):
        to.deliver(make_case(tmp_path / "case"))
    with pytest.raises(RetryLater, match="cannot be reached"):
        to.check()


def test_a_silent_server_is_retried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(RetryLater):
        team(listener.getsockname()[1], timeout_s=0.3).deliver(make_case(tmp_path / "case"))


def test_operators_get_the_reason(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path / "case"))
    with smtp_server() as mailbox:
        settings = mail_settings(mailbox.port, operators=("it@clinic.example",))
        OperatorsDestination(settings, DestinationContext(clock=clock)).deliver(case)
    ((recipients, message),) = mailbox.mails
    assert recipients == ("it@clinic.example",)
    assert "too thick" in message.as_string()
    assert "not analysed" in str(message["Subject"])


def test_each_list_has_its_own_when(tmp_path: Path) -> None:
    lists = (
        MailList(name="night", to=("night@clinic.example", TEAM[0].upper()), when="positive"),
        MailList(name="study", to=("study@clinic.example",), when="always"),
        MailList(name="off", to=("off@clinic.example",), when="never"),
    )
    with smtp_server() as mailbox:
        team(mailbox.port, lists=lists).deliver(make_case(tmp_path / "alert"))
        alert = [recipients for recipients, _ in mailbox.mails]
        mailbox.mails.clear()
        team(mailbox.port, lists=lists).deliver(make_case(tmp_path / "calm", core_ml=3.0, alert=False))
        calm = [recipients for recipients, _ in mailbox.mails]
    assert alert == [TEAM, ("night@clinic.example",), ("study@clinic.example",)], "who is in two lists gets one mail"
    assert calm == [TEAM, ("study@clinic.example",)]


def test_one_list_refused_for_good_does_not_hold_up_the_next(tmp_path: Path) -> None:
    receipts = MemoryMailReceipts()
    lists = (MailList(name="night", to=("night@clinic.example",)),)
    with smtp_server() as mailbox:
        mailbox.refuse = dict.fromkeys(TEAM, "550 no such user")
        with pytest.raises(OperatorNeeded, match=TEAM[0]):
            team(mailbox.port, lists=lists, receipts=receipts).deliver(make_case(tmp_path / "case"))
    assert [recipients for recipients, _ in mailbox.mails] == [("night@clinic.example",)]


def cut_when_taken(transfer: Passage, data: bytes) -> bytes:
    """The server has the message; its answer does not get through."""
    if bytes(transfer.said).endswith(b"\r\n.\r\n"):
        raise Cut
    return data


@pytest.mark.parametrize(("alert", "copies"), [(True, 3), (False, 1)])
def test_when_no_answer_comes_an_alert_is_repeated_and_a_result_is_not(alert: bool, copies: int, tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", core_ml=30.0 if alert else 3.0, alert=alert)
    receipts = MemoryMailReceipts()
    with smtp_server() as mailbox, proxy(mailbox.port, from_server=cut_when_taken) as between:
        to = team(between.port, receipts=receipts)
        for _ in range(copies):
            with pytest.raises(RetryLater):
                to.deliver(case)
        last = to.deliver(case)
        assert to.deliver(case).detail.endswith("already")
    assert "not known whether 2 recipients have it" in last.detail
    assert len(mailbox.mails) == copies
    assert len({message["Message-ID"] for _, message in mailbox.mails}) == 1
    assert [message["X-Corewatch-Repeated"] for _, message in mailbox.mails] == [None, "yes", "yes"][:copies]


NIGHT = MailList(name="night", to=("night@clinic.example",))


def test_a_server_that_says_no_and_hangs_up_has_said_no(tmp_path: Path) -> None:
    """As content filters do: the result is not lost as one of which nobody knows, and the next list gets its mail."""
    case = make_case(tmp_path / "case", core_ml=3.0, alert=False)
    receipts, left = MemoryMailReceipts(), ["with its picture", "as plain text"]

    def refuse(transfer: Passage, data: bytes) -> bytes:
        if bytes(transfer.said).endswith(b"\r\n.\r\n") and left:
            left.pop()
            transfer.client.sendall(b"554 not this one\r\n")
            raise Cut
        return data

    with smtp_server() as mailbox, proxy(mailbox.port, from_server=refuse) as between:
        to = team(between.port, lists=(NIGHT,), receipts=receipts)
        with pytest.raises(OperatorNeeded, match="554 not this one"):
            to.deliver(case)
        assert [recipients for recipients, _ in mailbox.mails][2:] == [NIGHT.to]
        to.deliver(case)
    assert {receipt.state for receipt in receipts.known(to.event(case)).values()} == {MailReceiptState.ACCEPTED}
    assert mailbox.mails[-1][0] == TEAM
    assert len(mailbox.mails) == 4, "the first two were refused by the filter alone"


def test_a_connection_that_breaks_under_one_list_s_mail_holds_up_no_other(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    receipts = MemoryMailReceipts()

    def cut(_passage: Passage, data: bytes) -> bytes:
        if TEAM[0].encode() in data and data.upper().startswith(b"RCPT"):
            raise Cut
        return data

    with smtp_server() as mailbox, proxy(mailbox.port, cut) as between:
        to = team(between.port, lists=(NIGHT,), receipts=receipts)
        for _ in range(3):
            with pytest.raises(RetryLater, match="broke off"):
                to.deliver(case)
    assert [recipients for recipients, _ in mailbox.mails] == [NIGHT.to]


def test_an_address_that_the_server_has_no_way_to_costs_the_others_nothing(tmp_path: Path) -> None:
    def strip(_passage: Passage, data: bytes) -> bytes:
        return re.sub(rb"SMTPUTF8", b"X-NOTHING", data)

    with smtp_server() as mailbox, proxy(mailbox.port, from_server=strip) as between:
        with pytest.raises(OperatorNeeded, match=r"jörg@clinic\.example: 553 the address is not ASCII"):
            team(between.port, to=(*TEAM, "jörg@clinic.example"), lists=(NIGHT,)).deliver(make_case(tmp_path / "case"))
        assert [recipients for recipients, _ in mailbox.mails] == [TEAM, NIGHT.to]
        assert str(mailbox.mails[0][1]["To"]) == ", ".join(TEAM)
        with pytest.raises(OperatorNeeded, match=r"deliver\.email"):
            team(between.port, sender="cöre@clinic.example").deliver(make_case(tmp_path / "other"))
        team(mailbox.port, to=("jörg@clinic.example",)).deliver(make_case(tmp_path / "utf8"))
    assert mailbox.mails[-1][0] == ("jörg@clinic.example",)


@pytest.mark.parametrize("fault", [{"refuse": {TEAM[0]: "450 greylisted"}}, {"data_reply": "451 not now"}])
def test_a_copy_that_is_refused_does_not_make_the_next_one_the_first(fault: dict[str, Any], tmp_path: Path) -> None:
    """Taken, though nobody knows; then refused, more often than a mail is copied; then taken: a copy, and marked as one."""
    case = make_case(tmp_path / "case")
    receipts, to = MemoryMailReceipts(), TEAM[:1]
    with smtp_server() as mailbox, proxy(mailbox.port, from_server=cut_when_taken) as between:
        with pytest.raises(RetryLater):
            team(between.port, to=to, receipts=receipts).deliver(case)
        for name, value in fault.items():
            setattr(mailbox, name, value)
        for _ in range(4):
            with pytest.raises(RetryLater, match="45"):
                team(mailbox.port, to=to, receipts=receipts).deliver(case)
        mailbox.refuse, mailbox.data_reply = {}, None
        team(mailbox.port, to=to, receipts=receipts).deliver(case)
    assert [message["X-Corewatch-Repeated"] for _, message in mailbox.mails] == [None, "yes"]


def test_a_connection_that_breaks_before_the_content_leaves_no_doubt(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", core_ml=3.0, alert=False)
    receipts = MemoryMailReceipts()
    left = [b"DATA", b"RCPT", b"MAIL"]

    def cut(_passage: Passage, data: bytes) -> bytes:
        if left and data.upper().startswith(left[-1]):
            left.pop()
            raise Cut
        return data

    with smtp_server() as mailbox, proxy(mailbox.port, cut) as between:
        to = team(between.port, receipts=receipts)
        for _ in range(3):
            with pytest.raises(RetryLater):
                to.deliver(case)
        to.deliver(case)
    assert left == []
    assert len(mailbox.mails) == 1


def test_lines_that_begin_with_a_dot_arrive_whole(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path / "case"))
    case = dataclasses.replace(case, result=dataclasses.replace(case.result, detail=".\n..dots\n.\nQUIT"))
    with smtp_server() as mailbox:
        OperatorsDestination(mail_settings(mailbox.port), DestinationContext(clock=clock)).deliver(case)
    ((_, message),) = mailbox.mails
    body = message.get_body(("plain",))
    assert body is not None
    assert "..dots" in body.get_content()
    assert "QUIT" in body.get_content()
