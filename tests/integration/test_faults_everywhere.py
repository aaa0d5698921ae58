"""Thousands of images arrive, by four senders and as drops, while programs are shot at random and the queue is wiped.

Afterwards every acknowledged and every dropped image is in exactly one case, with the bytes that were sent, and every case has
ended and told so.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import redis

from corewatch.states import ENDS, CaseState, DeliveryState
from jobs.embedded import running_url
from ledger.cases import Case
from tests.support.net import wait_for
from tests.support.programs import Corewatch
from tests.support.spool import head
from tests.support.stubborn import Image, StubbornSender

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 20260301
SERIES, SLICES, DROPS = 30, 60, 8
SHOTS = [*["listen"] * 3, *["watch"] * 3, *["work-prepare"] * 2, "work-deliver", *["redis"] * 2, "flush"]


def series_uid(number: int) -> str:
    return f"1.2.{number}"


@dataclass
class Shooter(threading.Thread):
    """Kills a program every now and then: in a drawn order, at drawn moments."""

    corewatch: Corewatch
    lot: random.Random
    fired: Counter[str] = field(default_factory=Counter)
    stop_it: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        shots = self.lot.sample(SHOTS, len(SHOTS))
        for shot in shots:
            if self.stop_it.wait(self.lot.uniform(0.2, 2.5)):
                return
            self._fire(shot)

    def _fire(self, shot: str) -> None:
        if shot == "flush":
            url = running_url(self.corewatch.settings.data_dir / "redis")
            try:
                if url is not None and redis.Redis.from_url(url, socket_timeout=1).flushall():
                    self.fired[shot] += 1
            except redis.RedisError:
                return  # it has just been shot
            return
        for victim in _family(self.corewatch, shot):
            victim.send_signal(signal.SIGKILL)
            self.fired[shot] += 1


def _family(corewatch: Corewatch, name: str) -> list[psutil.Process]:
    """The processes of one program."""
    found = []
    for process in psutil.Process(corewatch.process.pid).children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if name == "redis":
            mine = bool(command) and "redis-server" in command[0]
        else:
            program, _, queue = name.partition("-")
            mine = program in command and (not queue or queue in command)
        if mine:
            found.append(process)
    return found


@pytest.fixture(scope="module")
def corewatch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corewatch]:
    running = Corewatch(
        tmp_path_factory.mktemp("faults"),
        {
            "series": {
                "grace_s": 0.5,
                "idle_s": 4,
                "retry_wait_s": 10,
                "rules": [{"name": "cta-head", "min_slices": 8, "min_coverage_mm": 24}],
            },
            "deliver": {"folder": {"path": "./results"}, "backoff_s": 1},
            "work": {"lease_s": 5, "prepare_limit_s": 20, "deliver_limit_s": 20, "attempts": 10},
            "retention": {"free_gib": 0},
        },
    )
    yield running
    assert running.stop() == 0, running.tail()


def _drop(corewatch: Corewatch, images: dict[int, list[Image]], lot: random.Random) -> None:
    for number, members in images.items():
        hidden = corewatch.inbox / f".coming-{number}"
        hidden.mkdir()
        for position, (_, data) in enumerate(members):
            (hidden / f"{position}.dcm").write_bytes(data)
        hidden.rename(corewatch.inbox / f"drop-{number}")
        time.sleep(lot.uniform(0.2, 2.0))


def test_nothing_is_lost_and_every_case_ends(corewatch: Corewatch) -> None:
    lot = random.Random(SEED)
    sent = {number: head(str(number), SLICES) for number in range(100, 100 + SERIES)}
    dropped = {number: head(str(number), SLICES) for number in range(500, 500 + DROPS)}
    # each series by two senders, interleaved with others: halves of several series in one association
    pieces: list[list[Image]] = [[], [], [], []]
    for images in sent.values():
        one, other = lot.sample(range(4), 2)
        mixed = lot.sample(images, len(images))
        pieces[one] += mixed[: SLICES // 2]
        pieces[other] += mixed[SLICES // 2 :]
    senders = [
        StubbornSender(corewatch.port, f"SENDER{n}", piece, per_association=lot.randint(40, 160), seconds=120)
        for n, piece in enumerate(pieces)
    ]
    shooter = Shooter(corewatch, lot)
    for thread in (*senders, shooter):
        thread.start()
    _drop(corewatch, dropped, lot)
    for sender in senders:
        sender.join(150)
    shooter.join(60)
    assert sum(len(s.acknowledged) for s in senders) == SERIES * SLICES, corewatch.tail()
    assert sum(shooter.fired.values()) >= len(SHOTS) // 2, "the faults did strike"

    everything = sent | dropped
    cases = _when_quiet(corewatch, everything)
    _check(corewatch, everything, cases)
    assert not [p for p in corewatch.inbox.iterdir() if p.name not in ("processed", "rejected")]
    assert len(list((corewatch.inbox / "processed").glob("*-drop-*"))) >= DROPS


def _when_quiet(corewatch: Corewatch, everything: dict[int, list[Image]]) -> dict[int, Case]:
    """The one case of each series, once all of its images are there, it has ended, and everybody has heard of it."""

    def look() -> dict[int, Case] | None:
        current: dict[int, list[Case]] = {number: [] for number in everything}
        by_uid = {series_uid(number): number for number in everything}
        for case in corewatch.cases():
            if case.state not in ENDS:
                return None
            if case.state is not CaseState.SUPERSEDED and case.series_uid in by_uid:
                current[by_uid[case.series_uid]].append(case)
        assert corewatch.ledger is not None
        done = {n: found[0] for n, found in current.items() if len(found) == 1}
        if len(done) < len(everything):
            return None
        whole = all(len(corewatch.ledger.cases.instance_paths(case)) == SLICES for case in done.values())
        told = all(d.state in (DeliveryState.SENT, DeliveryState.SKIPPED)
                   for case in done.values() for d in corewatch.ledger.deliveries.of(case.case_id))  # fmt: skip
        return done if whole and told else None

    try:
        return wait_for("every series in one case that has ended", look, 150, every=0.5)
    except AssertionError as error:
        states = Counter((str(c.state), c.detail) for c in corewatch.cases())
        raise AssertionError(f"{error}: {states}\n{corewatch.tail()}") from None


def _check(corewatch: Corewatch, everything: dict[int, list[Image]], cases: dict[int, Case]) -> None:
    assert corewatch.ledger is not None
    received: Path = corewatch.settings.received_dir
    results = corewatch.folder / "results"
    for number, images in everything.items():
        case = cases[number]
        assert case.state is CaseState.NOT_ANALYSED, (case.detail, "sixteen pixels are no head")
        stored = {path: dataset_of((received / path).read_bytes()) for path in corewatch.ledger.cases.instance_paths(case)}
        assert Counter(stored.values()) == Counter(dataset_of(data) for _, data in images)
        assert len(list(results.glob(f"**/*{case.case_id}*"))) >= 1, "the results folder has heard of it"
        events = Counter(line.event for line in corewatch.ledger.cases.history(case.case_id))
        assert events["case.not_analysed"] == 1, "it has ended once"


def dataset_of(data: bytes) -> bytes:
    """What follows the meta header, which is the listener's own."""
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]
