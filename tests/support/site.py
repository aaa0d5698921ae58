"""The daemon's part of a site: real spool, real ledger, a clock that the test moves, and simulated crashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.delivery import DeliverSettings, EmailSettings, FolderSettings
from config.series import SeriesRule, SeriesSettings
from config.settings import Settings
from corewatch.messages import Work
from corewatch.states import CaseState
from daemon.intake.assembler import Assembler
from ledger.cases import Case
from ledger.store import Ledger
from tests.support.spool import Sender, TestClock


@dataclass
class Site:
    """A data folder with its ledger and assembler."""

    settings: Settings
    clock: TestClock
    ledger: Ledger
    assembler: Assembler

    @property
    def received(self) -> Path:
        return self.settings.received_dir

    def restart(self) -> None:
        """A crash and a new start: nothing but disk and database survives."""
        self.ledger.close()
        self.ledger = Ledger(self.settings.database_url, self.clock)
        self.assembler = Assembler(self.ledger, self.settings)

    def step(self, seconds: float = 0.0) -> None:
        self.assembler.step(self.clock.tick(seconds))

    def cases(self, *states: CaseState) -> list[Case]:
        return self.ledger.cases.find(states=states)

    def only(self) -> Case:
        (case,) = self.cases()
        return case

    def outbox(self) -> list[Work]:
        return [p.work for p in self.ledger.outbox.due(self.clock())]

    def events(self, case: Case) -> list[str]:
        return [line.event for line in self.ledger.cases.history(case.case_id)]

    def sender(self, **kind: object) -> Sender:
        return Sender(self.received, self.clock, **kind)  # type: ignore[arg-type]


@contextmanager
def open_site(folder: Path, *, started: bool = True) -> Iterator[Site]:
    """An empty site below `folder` that analyses CTA heads of 8 slices and more, and delivers to a folder and by mail."""
    settings = Settings(
        data_dir=folder / "data",
        series=SeriesSettings(idle_s=20, grace_s=1, rules=(SeriesRule(name="cta-head", min_slices=8, min_coverage_mm=24),)),
        deliver=DeliverSettings(folder=FolderSettings(path=folder / "results"), email=_email()),
    )
    clock = TestClock()
    ledger = Ledger(settings.database_url, clock)
    made = Site(settings, clock, ledger, Assembler(ledger, settings))
    if started:
        made.step()
    try:
        yield made
    finally:
        made.ledger.close()


def _email() -> EmailSettings:
    return EmailSettings.model_validate({"host": "localhost", "from": "corewatch@example.org", "to": ["stroke@example.org"]})


class Crash(BaseException):
    """The process ends at this line."""


def crash_at(target: object, name: str, call: int, *, after: bool) -> Callable[[], None]:
    """Make the `call`-th call of a method crash, before or after its effect. Returns a function that undoes this."""
    real = getattr(target, name)
    count = 0

    def last(*args: object, **kwargs: object) -> object:
        nonlocal count
        count += 1
        if count < call:
            return real(*args, **kwargs)
        if after:
            real(*args, **kwargs)
        raise Crash

    setattr(target, name, last)
    return lambda: delattr(target, name)
