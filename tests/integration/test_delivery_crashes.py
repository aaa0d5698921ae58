"""Deliver workers are shot at every step while PACS and mail server refuse at random: in the end everybody has everything once.

Orthanc and a real SMTP server stand behind proxies that see each step of the protocols and shoot the process at the other end.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from sqlalchemy import create_engine, text

from config import load_settings
from corewatch.mail_receipts import MailReceiptState
from corewatch.states import CaseState, DeliveryState
from jobs.embedded import EmbeddedRedis
from ledger.store import Ledger
from outputs.dicom.secondary_capture import Page
from tests.support.net import wait_for
from tests.support.office import Office
from tests.support.orthanc import Orthanc
from tests.support.postgres import Postgres
from tests.support.programs import COMMAND
from tests.support.proxy import Cut, Passage, proxy
from tests.support.results import write_header, write_pages
from tests.support.smtp import Mailbox, smtp_server
from worker.context import WorkerContext
from worker.delivery.reporting import report_case
from worker.models.detectors import Detectors

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

TEAM, NIGHT = "stroke@clinic.example", "night@clinic.example"
P_DATA, ASSOCIATE_RQ, RELEASE_RQ = 0x04, 0x01, 0x05
SUCCESS = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"
"""(0000,0900) Status 0x0000 in implicit little endian, as a C-STORE response ends."""
OUT_OF_RESOURCES = SUCCESS[:-2] + b"\x00\xa7"
CONTENT_END = b"\r\n.\r\n"


@dataclass
class Fate:
    """What happens at which step, each once; and what is refused, by chance."""

    ledger_held: Callable[[], AbstractContextManager[None]]
    """Nobody can commit: what is shot meanwhile has not written down what it did."""
    steps: list[str]
    chance: random.Random
    shot: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)
    busy: bool = True

    def due(self, step: str) -> bool:
        with self.lock:
            if step not in self.steps:
                return False
            self.steps.remove(step)
            self.shot.append(step)
            return True

    def shoot(self, step: str, transfer: Passage) -> bool:
        """Shoot the client; one that ended with the whole worker a moment ago is none, and the step is due again."""
        try:
            transfer.shoot()
        except (LookupError, OSError):
            with self.lock:
                self.shot.remove(step)
                self.steps.append(step)
            return False
        return True

    def shoots(self, step: str, transfer: Passage) -> bool:
        """Shoot the client if the step is due."""
        return self.due(step) and self.shoot(step, transfer)

    def refuses(self, what: str) -> bool:
        with self.lock:
            hit = self.busy and self.refused[what] < 4 and self.chance.random() < 0.25
            self.refused[what] += hit
            return hit

    # the mail server's proxy

    def mail_client(self, transfer: Passage, data: bytes) -> bytes:
        if data.upper().startswith(b"EHLO") and self.shoots("mail: before it is offered", transfer):
            raise Cut
        if bytes(transfer.said).endswith(CONTENT_END):
            if self.shoots("mail: the content is lost", transfer):
                raise Cut
            self.shoots("mail: taken, the answer is lost", transfer)
        return data

    def mail_server(self, transfer: Passage, data: bytes) -> bytes:
        if data.startswith(b"354") and self.shoots("mail: before the content", transfer):
            raise Cut
        if bytes(transfer.said).endswith(CONTENT_END) and data.startswith(b"250") and self.due("mail: before the commit"):
            with self.ledger_held():
                transfer.client.sendall(data)
                self.shoot("mail: before the commit", transfer)
            raise Cut
        return data

    # the PACS's proxy

    def pacs_client(self, transfer: Passage, data: bytes) -> bytes:
        if data[0] == ASSOCIATE_RQ:
            if self.shoots("pacs: before the association", transfer):
                raise Cut
            if self.refuses("association"):
                raise Cut
        elif data[0] == P_DATA and self.shoots("pacs: while storing", transfer):
            raise Cut
        elif data[0] == RELEASE_RQ and self.due("pacs: before the commit"):
            with self.ledger_held():
                self.shoot("pacs: before the commit", transfer)
        return data

    def pacs_server(self, transfer: Passage, data: bytes) -> bytes:
        if data[0] == P_DATA:
            if self.shoots("pacs: stored, the answer is lost", transfer):
                raise Cut
            if SUCCESS in data and self.refuses("0xA700"):
                return data.replace(SUCCESS, OUT_OF_RESOURCES)
        return data


STEPS = (
    "mail: before it is offered",
    "mail: before the content",
    "mail: the content is lost",
    "mail: taken, the answer is lost",
    "mail: before the commit",
    "pacs: before the association",
    "pacs: while storing",
    "pacs: stored, the answer is lost",
    "pacs: before the commit",
)
KEY_STEPS = STEPS[3:5] + STEPS[7:]
"""Where the ledger alone knows what must not be done again."""


@contextmanager
def sqlite_held(file: Path) -> Iterator[None]:
    held = sqlite3.connect(file, isolation_level=None, timeout=30)
    held.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        held.execute("ROLLBACK")
        held.close()


@contextmanager
def postgres_held(url: str) -> Iterator[None]:
    engine = create_engine(url)
    with engine.connect() as held:
        held.execute(text("LOCK TABLE deliveries, letters, audit IN EXCLUSIVE MODE"))
        try:
            yield
        finally:
            held.rollback()
    engine.dispose()


class Programs:
    """The daemon and a deliver worker; a worker that is shot as a whole is started again, as systemd would."""

    def __init__(self, file: Path, broker_url: str, log: Path) -> None:
        self._file, self._out = file, log.open("wb")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("COREWATCH__")}
        self._environment["COREWATCH__BROKER__URL"] = broker_url
        self.daemon = self._start("watch")
        self.worker = self._start("work", "--queues", "deliver")

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [COMMAND, *arguments, "--config", str(self._file)]
        return subprocess.Popen(command, stdout=self._out, stderr=subprocess.STDOUT, env=self._environment)

    def shoot_the_whole_worker(self) -> None:
        family = [psutil.Process(self.worker.pid), *psutil.Process(self.worker.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.worker.wait()
        self.worker = self._start("work", "--queues", "deliver")

    def stop(self) -> None:
        for process in (self.daemon, self.worker):
            process.terminate()
        for process in (self.daemon, self.worker):
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._out.close()


def case_with_objects(office: Office, number: int, core_ml: float) -> str:
    """A case with three objects that waits for its deliveries; its id."""
    case_id = office.found(core_ml, "orthanc", "email")
    folder = office.context.folder(case_id)
    uids = {"StudyInstanceUID": f"1.2.826.0.1.7.{number}", "SeriesInstanceUID": f"1.2.826.0.1.7.{number}.1"}
    write_header(folder.source_header, PatientID=f"PID-{number}", SOPInstanceUID=f"1.2.826.0.1.7.{number}.1.1", **uids)
    case = office.ledger.cases.get(case_id)
    assert case is not None
    pages = [Page(np.full((16, 16, 3), 9 * k, np.uint8), f"page-{k}") for k in range(3)]
    write_pages(report_case(office.context, case), pages)
    folder.summary.write_bytes(b"\x89PNG-page")
    return case_id


def wait_until_delivered(ledger: Ledger, log: Path, seconds: float) -> None:
    def all_ended() -> bool:
        return all(case.state in {CaseState.DELIVERED, CaseState.FAILED} for case in ledger.cases.find())

    try:
        wait_for("every case to end", all_ended, seconds, every=0.2)
    except AssertionError as error:
        states = {c.case_id: [(d.destination, str(d.state), d.detail) for d in ledger.deliveries.of(c.case_id)]
                  for c in ledger.cases.find() if c.state not in {CaseState.DELIVERED}}  # fmt: skip
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-60:])
        raise AssertionError(f"{error}: {states}\n{tail}") from None


def settings_file(folder: Path, pacs_port: int, mail_port: int, database: str | None) -> Path:
    email = {
        "host": "127.0.0.1", "port": mail_port, "security": "none", "from": "corewatch@clinic.example", "to": [TEAM],
        "lists": [{"name": "night", "to": [NIGHT], "when": "positive"}], "timeout_s": 5,
    }  # fmt: skip
    pacs = {"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs_port, "objects": ["sc"], "timeout_s": 5}
    deliver = {"pacs": [pacs], "folder": None, "email": email, "backoff_s": 0.2, "backoff_max_s": 2, "attempts": 30}
    # a message that is lost with its worker is posted again when the lease has run out: seconds here, minutes in a hospital
    work = {"lease_s": 5, "deliver_limit_s": 15}
    watch = {"folders": [{"path": "./inbox"}]}
    everything: dict[str, Any] = {"data_dir": "./data", "deliver": deliver, "watch": watch, "work": work}
    if database is not None:
        everything["database"] = {"url": database}
    file = folder / "corewatch.yaml"
    file.write_text(yaml.safe_dump(everything))
    return file


@pytest.mark.timeout(600)
def test_shot_at_every_step(tmp_path: Path, tool: Callable[[str], str]) -> None:
    held = partial(sqlite_held, tmp_path / "data" / "ledger.sqlite")
    shot(tmp_path, tool("Orthanc"), Fate(held, list(STEPS), random.Random(1)), (6, 2))


@pytest.mark.timeout(600)
def test_shot_with_the_ledger_in_postgresql(tmp_path: Path, tool: Callable[[str], str], postgres: Postgres) -> None:
    url = postgres.new_database("crashes")
    shot(tmp_path, tool("Orthanc"), Fate(partial(postgres_held, url), list(KEY_STEPS), random.Random(1)), (3, 1), url)


def shot(folder: Path, orthanc_binary: str, fate: Fate, counts: tuple[int, int], database: str | None = None) -> None:
    """Cases with and without an alert while `fate` shoots; afterwards everybody must have everything once."""
    steps = sorted(fate.steps)
    orthanc = Orthanc(orthanc_binary, folder / "orthanc")
    redis = EmbeddedRedis(folder / "redis")
    log = folder / "programs.log"
    try:
        with (
            smtp_server() as mailbox,
            proxy(orthanc.dicom, fate.pacs_client, fate.pacs_server) as to_pacs,
            proxy(mailbox.port, fate.mail_client, fate.mail_server) as to_mail,
        ):
            mailbox.chance = lambda what: "451 not now" if fate.refuses(what) else None
            file = settings_file(folder, to_pacs.port, to_mail.port, database)
            settings = load_settings(file, {})
            ledger = Ledger(settings.database_url)
            office = Office(WorkerContext(settings, ledger, Detectors(settings)), ledger.clock)
            alerts = [case_with_objects(office, k, 30.0 + k) for k in range(counts[0])]
            calm = [case_with_objects(office, k, 3.0) for k in range(counts[0], sum(counts))]
            programs = Programs(file, redis.start(), log)
            try:
                wait_for("half of the shots", lambda: len(fate.shot) > len(steps) // 2, 90, every=0.05)
                programs.shoot_the_whole_worker()
                wait_until_delivered(ledger, log, 200)
                late = 100
                while fate.steps:  # a step that no delivery came to any more needs one more case
                    assert late < 110, f"never came to {fate.steps}"
                    alerts.append(case_with_objects(office, late, 40.0))
                    late += 1
                    wait_until_delivered(ledger, log, 120)
            finally:
                programs.stop()
            check(ledger, orthanc, mailbox, alerts, calm)
            ledger.close()
    finally:
        redis.stop()
        orthanc.stop()
    assert sorted(fate.shot) == steps
    assert sum(fate.refused.values()) > 0


def check(ledger: Ledger, orthanc: Orthanc, mailbox: Mailbox, alerts: list[str], calm: list[str]) -> None:
    for case_id in [*alerts, *calm]:
        case = ledger.cases.get(case_id)
        assert case is not None
        states = {d.destination: d.state for d in ledger.deliveries.of(case_id)}
        assert states == {"orthanc": DeliveryState.SENT, "email": DeliveryState.SENT}, (case_id, states)
        assert case.state is CaseState.DELIVERED
    studies = orthanc.find("Study")
    assert len(studies) == len(alerts) + len(calm)
    uids = Counter(tags["SOPInstanceUID"] for study in studies for tags in instances(orthanc, study))
    assert len(uids) == 3 * len(studies)
    assert set(uids.values()) == {1}

    copies: Counter[tuple[str, str]] = Counter()
    marked = 0
    by_recipient: dict[tuple[str, str], set[str]] = {}
    for recipients, message in mailbox.mails:
        case_id = str(message["X-Corewatch-Case"]).split(";")[0]
        marked += message["X-Corewatch-Repeated"] == "yes"
        for recipient in recipients:
            copies[case_id, recipient] += 1
            by_recipient.setdefault((case_id, recipient), set()).add(str(message["Message-ID"]))
    for case_id in alerts:
        for recipient in (TEAM, NIGHT):
            assert copies[case_id, recipient] >= 1, "an alert always arrives"
            assert len(by_recipient[case_id, recipient]) == 1, "every copy is the same message"
    assert sum(count - 1 for count in copies.values()) <= marked <= 3, "a second copy only where nobody could know, and marked"
    for case_id in calm:
        assert copies[case_id, NIGHT] == 0
        (row,) = ledger.mail_receipts.of(case_id)
        assert copies[case_id, TEAM] == 1 or (copies[case_id, TEAM] == 0 and row.state is MailReceiptState.UNKNOWN)
    for case_id in alerts:
        assert {(row.recipient, row.state) for row in ledger.mail_receipts.of(case_id)} == {
            (TEAM, MailReceiptState.ACCEPTED), (NIGHT, MailReceiptState.ACCEPTED)
        }  # fmt: skip


def instances(orthanc: Orthanc, study: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [i["MainDicomTags"] for i in orthanc.get(f"/studies/{study['ID']}/instances")]
    return found
