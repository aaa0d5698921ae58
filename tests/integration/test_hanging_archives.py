"""Archives that accept a connection and say no more: mails and other cases go on while they hang."""

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
from tests.support.office import open_office
from tests.support.results import write_header
from tests.support.smtp import smtp_server
from worker.suspects import SHORTEST_PAUSE_S

TIMEOUT_S = 0.4


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


def test_an_archive_that_hangs_costs_one_timeout_and_not_one_for_each_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.delivering.SLOW_S", TIMEOUT_S / 2)
    with hanging() as pacs, hanging() as web, smtp_server() as mailbox:
        both = {"objects": ["sc"], "timeout_s": TIMEOUT_S}
        archive = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, **both}
        online = {"name": "web", "url": f"http://127.0.0.1:{web.port}/dicom-web", **both}
        email = {
            "host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "corewatch@clinic.example",
            "to": ["stroke@clinic.example"],
        }  # fmt: skip
        office = open_office(tmp_path, Clock(), {"pacs": [archive], "dicomweb": [online], "email": email})
        ids = [office.found(40.0, "pacs", "web", "email") for _ in range(6)]
        for case_id in ids:
            folder = office.context.folder(case_id)
            folder.dicom.mkdir()
            write_header(folder.source_header)
            write_header(folder.dicom / "sc-001.dcm")
        office.work()
        assert (len(pacs.connections), len(web.connections)) == (1, 1), "the first case has found out for all"
        assert len(mailbox.mails) == 6
        waiting = [d for case_id in ids for d in office.ledger.deliveries.of(case_id) if d.state is DeliveryState.PENDING]
        assert {(d.destination, d.attempts) for d in waiting} == {("pacs", 0), ("web", 0)}
        assert len(waiting) == 12
        office.clock.forward(SHORTEST_PAUSE_S)
        office.work()
        assert (len(pacs.connections), len(web.connections)) == (2, 2), "one of them tries again"
        office.clock.forward(50 * 3600)
        office.work()
        assert {case.state for case in office.ledger.cases.find()} == {CaseState.FAILED}, "given up as ever"
        office.ledger.close()
