"""Servers that accept a connection and do not answer: deliveries to other servers and other cases continue."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corewatch.states import CaseState, DeliveryState
from tests.support.ledger import Clock
from tests.support.office import Office, open_office
from tests.support.results import write_header
from tests.support.smtp import smtp_server
from tests.support.storage import storage_scp
from worker.delivery.circuit_breaker import BACKOFF

TIMEOUT_S = 0.4
SECRET = "whsec_" + "c2VjcmV0" * 4


@dataclass
class Hanging:
    port: int
    connections: list[socket.socket] = field(default_factory=list)


@contextmanager
def hanging() -> Iterator[Hanging]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = Hanging(int(listener.getsockname()[1]))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    held.connections.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield held
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held.connections:
                connection.close()


def found_with_a_page(office: Office, core_ml: float, *names: str) -> str:
    """A case with a finding and one DICOM object, planned for these destinations."""
    case_id = office.found(core_ml, *names)
    folder = office.context.folder(case_id)
    folder.dicom.mkdir()
    write_header(folder.source_header)
    write_header(folder.dicom / "sc-001.dcm")
    return case_id


def test_an_archive_that_hangs_costs_one_timeout_and_not_one_for_each_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.delivery.circuit_breaker.SLOW_S", TIMEOUT_S / 2)
    with hanging() as pacs, hanging() as web, smtp_server() as mailbox:
        both = {"objects": ["sc"], "timeout_s": TIMEOUT_S}
        archive = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, **both}
        online = {"name": "web", "url": f"http://127.0.0.1:{web.port}/dicom-web", **both}
        email = {
            "host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "corewatch@clinic.example",
            "to": ["stroke@clinic.example"],
        }  # fmt: skip
        office = open_office(tmp_path, Clock(), {"pacs": [archive], "dicomweb": [online], "email": email})
        ids = [found_with_a_page(office, 40.0, "pacs", "web", "email") for _ in range(6)]
        office.work()
        assert (len(pacs.connections), len(web.connections)) == (1, 1), "the first case has found out for all"
        assert len(mailbox.mails) == 6
        waiting = [d for case_id in ids for d in office.ledger.deliveries.of(case_id) if d.state is DeliveryState.PENDING]
        assert {(d.destination, d.attempts) for d in waiting} == {("pacs", 0), ("web", 0)}
        assert len(waiting) == 12
        office.clock.forward(BACKOFF.first_s)
        office.work()
        assert (len(pacs.connections), len(web.connections)) == (2, 2), "one of them tries again"
        office.clock.forward(50 * 3600)
        office.work()
        assert {case.state for case in office.ledger.cases.find()} == {CaseState.FAILED}, "given up as ever"
        office.ledger.close()


@pytest.mark.parametrize("max_per_hour", [2, 100])
def test_a_mail_server_or_webhook_that_hangs_keeps_no_archive_waiting(
    max_per_hour: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two mails an hour the others wait for a digest, which finds the same server."""
    monkeypatch.setattr("worker.delivery.circuit_breaker.SLOW_S", TIMEOUT_S / 2)
    with hanging() as mail, hanging() as hook, storage_scp() as pacs:
        both = {"timeout_s": TIMEOUT_S}
        archive = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, "objects": ["sc"]}
        email = {
            "host": "127.0.0.1", "port": mail.port, "security": "none", "from": "corewatch@clinic.example",
            "to": ["stroke@clinic.example"], "max_per_hour": max_per_hour, **both,
        }  # fmt: skip
        webhook = {"url": f"http://127.0.0.1:{hook.port}/", "secret": SECRET, "when": "always", **both}
        office = open_office(tmp_path, Clock(), {"pacs": [archive], "email": email, "webhook": webhook})
        ids = [found_with_a_page(office, 4.0, "email", "webhook", "pacs") for _ in range(6)]
        office.work()
        assert (len(mail.connections), len(hook.connections)) == (1, 1), "the first case has found out for all"
        states = [(d.destination, d.state) for case_id in ids for d in office.ledger.deliveries.of(case_id)]
        assert states.count(("pacs", DeliveryState.SENT)) == 6
        assert states.count(("email", DeliveryState.PENDING)) == states.count(("webhook", DeliveryState.PENDING)) == 6
        office.clock.forward(BACKOFF.first_s)
        office.work()
        assert (len(mail.connections), len(hook.connections)) == (2, 2), "one of them tries again"
        office.ledger.close()
