"""Power fails after any of the operations that a disk saw: what was acknowledged is in exactly one case, and every case ends.

Two associations are stored while the daemon works. Then, for every moment of that, the disk is made again as a power loss may leave
it (see `tests.support.powerloss`), together with the ledger as it was committed at that moment, and everything is started again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corewatch.states import ENDS, CaseState
from tests.support.powerloss import Change, Loss, RecordingDisk, lose_by_lot, lose_everything, lose_nothing, restore
from tests.support.site import Site, open_site
from tests.support.spool import Sender, head

S = CaseState
IMAGES = head(slices=8)


@dataclass
class Recorded:
    """A run: what the disk saw, when what was acknowledged, and the ledger's files as they were at those moments."""

    changes: list[Change] = field(default_factory=list)
    acknowledged: list[tuple[int, str]] = field(default_factory=list)
    ledgers: list[tuple[int, Path]] = field(default_factory=list)

    def acknowledged_before(self, moment: int) -> set[str]:
        return {uid for at, uid in self.acknowledged if at <= moment}

    def ledger_before(self, moment: int) -> Path | None:
        return max(((at, path) for at, path in self.ledgers if at <= moment), default=(0, None), key=lambda found: found[0])[1]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("recorded")
    run = Recorded()
    with open_site(folder, started=False) as site:
        disk = RecordingDisk(site.settings.data_dir)
        with disk.recording():
            _store(site, disk, run, folder)
        run.changes = disk.changes
    return run


def _store(site: Site, disk: RecordingDisk, run: Recorded, folder: Path) -> None:
    def send(sender: Sender, number: int) -> None:
        sender.send([IMAGES[number]])
        run.acknowledged.append((len(disk.changes), IMAGES[number][0]))

    def step(seconds: float) -> None:
        site.step(seconds)
        kept = folder / f"ledger-{len(run.ledgers)}"
        kept.mkdir()
        for part in site.settings.data_dir.glob("ledger.sqlite*"):
            if not part.name.endswith("-shm"):
                shutil.copy(part, kept)
        run.ledgers.append((len(disk.changes), kept))

    first = site.sender()
    send(first, 0)
    step(0.2)
    second = site.sender()
    for number in (1, 2):
        send(second if number % 2 else first, number)
    step(0.2)
    for number in (3, 4, 5):
        send(second if number % 2 else first, number)
    first.release()
    step(0.2)
    for number in (6, 7):
        send(second, number)
    second.release()
    step(0.2)
    step(1.2)
    assert site.only().state is S.QUEUED
    assert len(run.acknowledged) == len(IMAGES)


@pytest.mark.parametrize(
    "loss",
    [lambda _: lose_everything, lambda _: lose_nothing, lose_by_lot],
    ids=["all", "none", "lot"],
)
def test_after_any_operation(recorded: Recorded, loss: Callable[[int], Loss], tmp_path: Path) -> None:
    assert len(recorded.changes) > 50, "the recording has seen the spool's operations"
    for moment in range(1, len(recorded.changes) + 1):
        where = tmp_path / str(moment)
        _restore(recorded, moment, loss(moment), where)
        with open_site(where) as site:
            _recover(site, recorded.acknowledged_before(moment))
        shutil.rmtree(where)


def _restore(recorded: Recorded, moment: int, loss: Loss, where: Path) -> None:
    data = where / "data"
    data.mkdir(parents=True)
    restore(recorded.changes[:moment], data, loss)
    if (ledger := recorded.ledger_before(moment)) is not None:
        shutil.copytree(ledger, data, dirs_exist_ok=True)


def _recover(site: Site, acknowledged: set[str]) -> None:
    _run_until_quiet(site)
    _check(site, acknowledged)
    # a sender that got no answer sends everything again
    sender = site.sender()
    sender.send(IMAGES)
    sender.release()
    _run_until_quiet(site)
    _check(site, {uid for uid, _ in IMAGES})
    assert [c.state for c in site.cases() if c.state is not S.SUPERSEDED] == [S.QUEUED], "the whole series is analysed, once"


def _run_until_quiet(site: Site) -> None:
    for seconds in (0.2, 1.2, 21, 3700, 0.2, 1.2, 21):
        site.step(seconds)
    assert all(c.state in ENDS | {S.QUEUED} for c in site.cases()), "no case waits for ever"


def _check(site: Site, acknowledged: set[str]) -> None:
    """Each acknowledged image is in one case, once, with the bytes that were sent."""
    current = [c for c in site.cases() if c.state is not S.SUPERSEDED]
    contents = [
        (site.received / path).read_bytes()
        for c in current
        for path in site.ledger.cases.instance_paths(c)
        if c.state is not S.FAILED
    ]
    held = Counter(contents)
    for uid, data in IMAGES:
        if uid in acknowledged:
            assert held[data] == 1, "acknowledged, and in exactly one case"
        else:
            assert held[data] <= 1
