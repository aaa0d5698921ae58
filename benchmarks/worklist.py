"""Worklist of many cases: seconds of one page, of the counts, and of a search, on SQLite.

    python -m benchmarks.worklist --cases 10000

Fills a ledger with cases that have ended (one in ten with an alert, four deliveries each) and times the queries of
the portal's worklist: the first page, a page in the middle, by filter, the number of open alerts, the search by
identifier, and the whole page.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from starlette.requests import Request

from config.settings import Settings
from corewatch.roles import Role
from corewatch.states import CaseState, DeliveryState
from ledger import tables
from ledger.database import Database
from ledger.store import Ledger
from ledger.worklist import Cursor, WorklistFilter
from portal.access.principal import Principal, SignIn
from portal.app import make_site
from portal.pages.worklist import WorklistPages

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
DESTINATIONS = ("email", "folder", "pacs", "webhook")


def fill(url: str, count: int) -> None:
    """Insert the rows of `count` cases."""
    database = Database(url)
    rows: dict[Any, list[dict[str, Any]]] = {
        tables.arrivals: [], tables.cases: [], tables.alerts: [], tables.deliveries: [], tables.series_arrivals: []
    }  # fmt: skip
    for number in range(count):
        case_id, at, alert = f"c{number:08d}", NOW - timedelta(minutes=7 * number), number % 10 == 0
        state = CaseState.NOT_ANALYSED if number % 4 == 1 else CaseState.FAILED if number % 97 == 5 else CaseState.DELIVERED
        arrival = f"a{number:08d}"
        rows[tables.arrivals].append(
            {"arrival_id": arrival, "source": "c_store", "peer_ae_title": f"CT{number % 5}", "peer_host": "10.0.0.1", "email": [],
             "opened_at": at, "closed_at": at, "outcome": "released", "finished": True}
        )  # fmt: skip
        rows[tables.cases].append(
            {"case_id": case_id, "case_key": f"k{number}", "study_uid": "9", "series_uid": f"1.{number}", "revision": 1,
             "state": str(state), "email": [], "created_at": at, "last_stored_at": at, "updated_at": at, "core_ml": 12.0,
             "side": "left", "alert": alert, "accession_hash": f"h{number}", "scanner": f"Maker CT{number % 5}"}
        )  # fmt: skip
        rows[tables.series_arrivals].append({"series_uid": f"1.{number}", "arrival_id": arrival})
        if alert:
            done = None if number in {0, 50, 500} else at
            rows[tables.alerts].append({"case_id": case_id, "raised_at": at, "acknowledged_at": done})
        rows[tables.deliveries] += [
            {"case_id": case_id, "destination": name, "state": str(DeliveryState.SENT), "planned_at": at, "attempts": 1,
             "detail": "", "sent_at": at + timedelta(seconds=30)}
            for name in DESTINATIONS
        ]  # fmt: skip
    with database.transaction() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)
    database.close()


def timed(work: Callable[[], object], repeats: int = 15) -> float:
    """Median milliseconds."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


def page_of(folder: Path, ledger: Ledger) -> Callable[[], object]:
    """Makes the page `/` of the portal, without the network."""
    settings = Settings.model_validate({"data_dir": folder, "portal": {"url": "http://127.0.0.1:8080"}})
    site = make_site(settings, ledger)
    person = Principal("brandt", "Ute Brandt", frozenset({Role.READER}), SignIn.PASSWORD)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""})
    worklist = WorklistPages(site)
    return lambda: worklist.show(request, person)


def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    count = parser.parse_args().cases
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.sqlite'}"
        fill(url, count)
        ledger = Ledger(url)
        worklist, middle = ledger.worklist, Cursor(False, NOW - timedelta(minutes=7 * count // 2), "z")
        for name, work in {
            "first page": lambda: worklist.page(WorklistFilter()),
            "page in the middle": lambda: worklist.page(WorklistFilter(), middle),
            "failed": lambda: worklist.page(WorklistFilter(states=(CaseState.FAILED,))),
            "one scanner": lambda: worklist.page(WorklistFilter(scanner="Maker CT3")),
            "scanner without cases": lambda: worklist.page(WorklistFilter(scanner="None")),
            "alerts of one person": lambda: worklist.page(WorklistFilter(acknowledged_by="Brandt")),
            "open alerts": worklist.open_alerts,
            "counts of all": lambda: worklist.counts(NOW - timedelta(days=3650)),
            "search": lambda: worklist.page(WorklistFilter(identifier_hash="h77")),
        }.items():
            print(f"{name:24} {timed(work):7.1f} ms")
        print(f"{'whole page as HTML':24} {timed(page_of(Path(folder), ledger)):7.1f} ms")
        ledger.close()


if __name__ == "__main__":
    main()
