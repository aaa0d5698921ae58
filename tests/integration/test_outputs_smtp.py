"""Mails through a real SMTP server on loopback."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from corewatch.errors import OperatorNeeded, RetryLater
from outputs.destinations.email import EmailDestination, EmailParameters, OperatorsDestination
from outputs.smtp import MailServer
from tests.support.results import PATIENT_ID, clock, make_case, not_analysed
from tests.support.smtp import PASSWORD, USER, smtp_server
from tests.support.storage import Certificates, make_certificates

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

TEAM = ("stroke@clinic.example", "duty@clinic.example")
FROM = "corewatch@clinic.example"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


def team(port: int, *, to: tuple[str, ...] = TEAM, patient: tuple[str, ...] = (), **server: Any) -> EmailDestination:
    how: dict[str, Any] = {"host": "127.0.0.1", "port": port, "security": "none", "timeout_s": 5.0}
    return EmailDestination(EmailParameters(MailServer(**(how | server)), FROM, to=to, patient_fields=patient), clock)


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
        team(mailbox.port, to=("other@clinic.example",), patient=("PatientID",)).deliver(case)
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
        assert to.check() is None
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
        assert "user and password" in str(to.check())
    assert "wrong-one" not in str(caught.value)
    assert "wrong-one" not in repr(MailServer("h", password="wrong-one"))


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
    with smtp_server() as mailbox:
        mailbox.refuse = {TEAM[1]: reply}
        with pytest.raises(error, match=TEAM[1]):
            team(mailbox.port).deliver(case)
        mailbox.refuse = {}
        team(mailbox.port).deliver(case)
        again = team(mailbox.port).deliver(case)
    assert [recipients for recipients, _ in mailbox.mails] == [TEAM[:1], TEAM[1:]]
    assert len({message["Message-ID"] for _, message in mailbox.mails}) == 1
    assert "already" in again.detail


def test_a_dead_server_is_retried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    to = team(port)
    with pytest.raises(RetryLater, match="cannot be reached"):
        to.deliver(make_case(tmp_path / "case"))
    assert "cannot be reached" in str(to.check())


def test_a_silent_server_is_retried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(RetryLater):
        team(listener.getsockname()[1], timeout_s=0.3).deliver(make_case(tmp_path / "case"))


def test_operators_get_the_reason(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path / "case"))
    with smtp_server() as mailbox:
        server = MailServer("127.0.0.1", mailbox.port, "none")
        OperatorsDestination(EmailParameters(server, FROM, to=TEAM, operators=("it@clinic.example",)), clock).deliver(case)
    ((recipients, message),) = mailbox.mails
    assert recipients == ("it@clinic.example",)
    assert "too thick" in message.as_string()
    assert "not analysed" in str(message["Subject"])
