"""A new kind of destination is one new file in `outputs/destinations`, besides its section and field in `config.delivery`.

The file is put on the package's path, so that nothing else knows of it; its delivery is planned, done and checked all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

import outputs.destinations
from cli.checks import peers
from cli.checks.report import Check, Level
from config.delivery import DeliverSettings, DestinationSection
from config.settings import Settings
from corewatch.destinations import Turn
from corewatch.states import DeliveryState
from ledger.store import Ledger
from tests.support.office import Office
from worker.context import WorkerContext, destinations_of
from worker.models.detectors import Detectors
from worker.tasks import plan_deliveries


class PrinterSettings(DestinationSection):
    """A printer beside the scanner: the section that `config.delivery` would get."""

    turn: ClassVar[Turn] = Turn.WEBHOOK
    spool: Path

    @property
    def names(self) -> tuple[str, ...]:
        return ("printer",)


class DeliverToPrinterToo(DeliverSettings):
    """`DeliverSettings` with the field that it would get."""

    printer: PrinterSettings | None = None


FILE = '''
"""Delivery to a printer."""

from datetime import UTC, datetime

from corewatch.errors import RetryLater
from outputs.destinations.base import Delivered, DestinationKind
from tests.contract.test_new_destination import PrinterSettings


class PrinterDestination:
    name, server = "printer", None

    def __init__(self, settings, context):
        self._spool, self._clock = settings.spool, context.clock

    def skip_reason(self, case):
        return None if case.result.finding.alert else "no alert: nothing is printed"

    def deliver(self, case):
        self.check()
        (self._spool / case.case_id).write_text(f"{case.result.finding.core_ml} mL")
        return Delivered("printed", self._clock())

    def check(self):
        if not self._spool.is_dir():
            raise RetryLater("the printer is off", "switch it on")


def _build(deliver, context):
    if deliver.printer is not None:
        yield PrinterDestination(deliver.printer, context)


KIND = DestinationKind(PrinterSettings, _build)
'''


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "printer.py").write_text(FILE)
    monkeypatch.setattr(outputs.destinations, "__path__", [*outputs.destinations.__path__, str(tmp_path / "package")])
    monkeypatch.delitem(sys.modules, "outputs.destinations.printer", raising=False)
    deliver = DeliverToPrinterToo.model_validate(
        {
            "printer": {"spool": tmp_path / "spool"},
            "pacs": [{"name": "archive", "ae_title": "PACS", "host": "h", "port": 104}],
            "folder": {"path": tmp_path / "results"},
        }
    )
    return Settings(data_dir=tmp_path / "data", deliver=deliver)


@pytest.fixture
def office(settings: Settings) -> Iterator[Office]:
    ledger = Ledger(settings.database_url)
    yield Office(WorkerContext(settings, ledger, Detectors(settings), destinations_of(settings)), ledger.clock)
    ledger.close()


def test_it_is_found_and_has_its_turn(settings: Settings) -> None:
    assert list(destinations_of(settings)) == ["printer", "archive", "folder"]


@pytest.mark.parametrize(("core_ml", "state", "paper"), [(34.0, DeliveryState.SENT, ["34.0 mL"]), (3.0, DeliveryState.SKIPPED, [])])
def test_it_is_planned_and_delivered(
    core_ml: float, state: DeliveryState, paper: list[str], office: Office, tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    case_id = office._prepared()
    office.find(case_id, core_ml)
    case = office.ledger.cases.get(case_id)
    assert case is not None
    assert plan_deliveries(office.context, case, {})
    office.work()
    assert {one.destination: one.state for one in office.ledger.deliveries.of(case_id)}["printer"] is state
    assert [path.read_text() for path in (tmp_path / "spool").iterdir()] == paper


def test_the_doctor_checks_it(settings: Settings, tmp_path: Path) -> None:
    def found() -> Check:
        return next(check for check in peers.destinations(settings) if check.subject == "to printer")

    assert (found().level, found().found, found().remedy) == (Level.ERROR, "the printer is off", "switch it on")
    (tmp_path / "spool").mkdir()
    assert found().level is Level.OK


def test_no_archive_may_have_its_name(settings: Settings) -> None:
    archive = {"name": "printer", "ae_title": "PACS", "host": "h", "port": 104}
    with pytest.raises(ValidationError, match="must be unique"):
        DeliverToPrinterToo.model_validate({"printer": {"spool": "spool"}, "pacs": [archive]})
