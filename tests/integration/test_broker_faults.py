"""The queue is wiped, its connections are cut, and it is gone for long (minutes, by short leases): each case finishes, once."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from socket import SHUT_RDWR

import pytest
import redis
import yaml
from sqlalchemy import create_engine, update

from config import load_settings
from config.settings import Settings
from corewatch.arrival import ArrivalOutcome, ArrivalSource
from corewatch.states import CaseState
from jobs.embedded import EmbeddedRedis
from ledger import tables
from ledger.cases import Case
from ledger.spool import ArrivalWriter
from ledger.store import Ledger
from tests.support.net import wait_for
from tests.support.programs import COMMAND
from tests.support.proxy import Cut, Passage, Proxy
from tests.support.spool import head

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(400)]

LEASE_S = 3
END_LIMIT_S = 150.0


@dataclass
class Line:
    """The connection between the programs and their broker, for the test to cut."""

    server: EmbeddedRedis
    proxy: Proxy
    away: bool = field(default=False)

    def see(self, _passage: Passage, data: bytes) -> bytes:
        if self.away:
            raise Cut
        return data

    def cut(self) -> None:
        for transfer in list(self.proxy.transfers):
            for end in (transfer.client, transfer.server):
                with suppress(OSError):
                    end.shutdown(SHUT_RDWR)

    def wipe(self) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()


@dataclass
class Programs:
    """The daemon and its workers as programs of their own."""

    folder: Path
    settings: Settings
    ledger: Ledger
    line: Line
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [COMMAND, *arguments, "--config", str(self.folder / "corewatch.yaml")]
            self.started[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def arrive(self, number: int) -> str:
        """A series comes; returns its UID."""
        writer = ArrivalWriter.open(self.settings.received_dir, ArrivalSource.C_STORE, peer_ae_title="PACS", peer_host="10.0.0.1")
        for uid, data in head(str(number), 12):
            writer.store_instance(uid, [data])
        writer.close(ArrivalOutcome.RELEASED)
        return f"1.2.{number}"

    def case(self, series_uid: str) -> Case | None:
        return next(iter(self.ledger.cases.find(series_uid=series_uid)), None)

    def decided(self, series_uid: str) -> bool:
        """The case is no longer received."""
        case = self.case(series_uid)
        return case is not None and case.state is not CaseState.RECEIVING

    def told(self, series_uid: str) -> bool:
        """The case has ended, and the folder has heard of it."""
        case = self.case(series_uid)
        return case is not None and any(line.event == "delivery.sent" for line in self.ledger.cases.history(case.case_id))

    def let_leases_run_out(self, series_uid: str) -> None:
        """As if more time had passed than a worker may take for a stage."""
        engine = create_engine(self.settings.database_url)
        mine = (tables.cases.c.series_uid == series_uid) & tables.cases.c.lease_until.is_not(None)
        with engine.begin() as connection:
            connection.execute(update(tables.cases).where(mine).values(lease_until=self.ledger.clock() - timedelta(seconds=1)))
        engine.dispose()

    def check_once(self, series: list[str]) -> None:
        """Every case ends, and nothing of it has happened twice."""
        try:
            wait_for("all cases to end", lambda: all(self.told(uid) for uid in series), END_LIMIT_S, every=0.2)
        except AssertionError as error:
            logs = "\n".join(p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.log"))
            raise AssertionError(f"{error}\n{logs}") from None
        for uid in series:
            (case,) = self.ledger.cases.find(series_uid=uid)
            assert case.state is CaseState.NOT_ANALYSED, case.detail
            events = Counter(line.event for line in self.ledger.cases.history(case.case_id))
            assert (events["case.not_analysed"], events["delivery.sent"]) == (1, 1), events


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    folder = tmp_path_factory.mktemp("broker")
    server = EmbeddedRedis(folder / "redis")
    url = server.start()
    line = Line(server, Proxy(int(url.rsplit(":", 1)[1].split("/")[0])))
    line.proxy.from_client = line.proxy.from_server = line.see
    through = url.rsplit(":", 1)[0] + f":{line.proxy.port}/0"
    written = {
        "broker": {"url": through},
        "series": {"grace_s": 0.2, "idle_s": 3, "rules": [{"name": "cta-head", "min_slices": 8, "min_coverage_mm": 24}]},
        "work": {"lease_s": LEASE_S, "prepare_limit_s": 20, "deliver_limit_s": 20, "attempts": 5},
        "deliver": {"folder": {"path": str(folder / "results")}},
        "retention": {"free_gib": 0},
    }
    (folder / "corewatch.yaml").write_text(yaml.safe_dump(written | {"data_dir": str(folder / "data")}))
    settings = load_settings(folder / "corewatch.yaml", {})
    running = Programs(folder, settings, Ledger(settings.database_url), line)
    try:
        for name in ("watch", "prepare", "deliver"):
            running.start(name, *(["watch"] if name == "watch" else ["work", "--queues", name]))
        running.check_once([running.arrive(1)])  # all are at work
        yield running
    finally:
        for process in running.started.values():
            process.send_signal(signal.SIGTERM)
        for process in running.started.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(40)
            process.kill()
            process.wait()
        running.ledger.close()
        line.proxy.close()
        server.stop()


def wiped(line: Line, _: Programs) -> None:
    line.wipe()


def cut_often(line: Line, _: Programs) -> None:
    line.cut()


def gone(line: Line, programs: Programs) -> None:
    """Away until leases have run out, and wiped meanwhile."""
    line.away = True
    line.cut()
    late = programs.arrive(900)
    wait_for("the case to be queued", lambda: (c := programs.case(late)) is not None and c.state is CaseState.QUEUED, 30)
    case = programs.case(late)
    assert case is not None
    wait_for("its lease to run out", lambda: programs.ledger.clock() > (case.lease_until or programs.ledger.clock()), 4 * LEASE_S)
    line.wipe()
    line.away = False


@pytest.mark.parametrize("strike", [wiped, cut_often, gone])
def test_each_case_finishes_once(strike: Callable[[Line, Programs], None], programs: Programs) -> None:
    base = {wiped: 100, cut_often: 200, gone: 300}[strike]
    series = []
    for number in range(base, base + 8):
        series.append(programs.arrive(number))
        if number % 3 == 1:
            wait_for("it to be queued", lambda uid=series[-1]: programs.decided(uid), 30, every=0.01)
            strike(programs.line, programs)
    programs.check_once(series)


def test_a_worker_that_is_shot_with_work_in_hand_and_a_wiped_queue(programs: Programs) -> None:
    """Neither the broker nor the worker knows of the case any more: only the ledger does."""
    uid = programs.arrive(400)

    def holder() -> int | None:
        case = programs.case(uid)
        return int(case.holder.split("/")[1]) if case is not None and case.holder else None

    with suppress(ProcessLookupError):
        os.kill(wait_for("a worker to hold it", holder, 30, every=0.001), signal.SIGKILL)
    programs.line.wipe()
    programs.let_leases_run_out(uid)
    programs.check_once([uid])
