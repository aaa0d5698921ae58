"""A ledger of every layout that ever was on the main branch opens, is migrated with everything in it, and works, on both databases.

The layouts are SQL dumps in `tests/support/layouts`, which `generate.py` there writes from history: for the first commit of each
layout it executes `ledger/tables.py` as it was and keeps the statements of `create_all`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import Column, Connection, Index, Integer, MetaData, String, Table, create_engine, inspect, text

from corewatch.errors import ConfigurationError
from corewatch.instance import Instance
from corewatch.mail_receipts import MailEvent, MailKind, MailReceiptState
from corewatch.mail_throttle import MailLimits, SendMode
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, DeliveryState, Stage
from ledger import schema, tables
from ledger.schema import LedgerNotUsable
from ledger.store import Ledger
from tests.support import layouts
from tests.support.ledger import T0, Clock, delivering, queued

ALERT = f"c-{CaseState.DELIVERING}"
"""The case with an alert mail that is pending, and a delivery in every other state."""


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def seed(url: str) -> None:
    """Cases and deliveries in every state, in whatever columns the layout has."""
    long_ago = T0 - timedelta(days=1)
    rows: list[tuple[str, dict[str, Any]]] = [
        ("arrivals", {"arrival_id": "a", "source": "c_store", "peer_ae_title": "PACS", "peer_host": "10.0.0.5", "email": ["x@y"],
                      "opened_at": long_ago, "closed_at": long_ago, "outcome": "released", "finished": True}),
        ("set_aside", {"path": "a/odd", "arrival_id": "a", "kind": "unreadable", "detail": "no DICOM", "at": long_ago}),
    ]  # fmt: skip
    for number, state in enumerate(CaseState):
        series = f"1.2.{number}"
        header = Instance(f"{series}.1", CTImageStorage, ExplicitVRLittleEndian, series, "9")
        rows += [
            ("cases", {"case_id": f"c-{state}", "case_key": f"k{number}", "study_uid": "9", "series_uid": series, "revision": 1,
                       "state": str(state), "reason": str(Reason.MISSING_SLICES) if state is CaseState.NOT_ANALYSED else None,
                       "failed_stage": "deliver" if state is CaseState.FAILED else None, "detail": "", "email": [], "attempts": 1,
                       "lease_until": long_ago, "created_at": long_ago, "last_stored_at": long_ago, "updated_at": long_ago,
                       "core_ml": 47.5, "side": "left", "alert": True, "files_removed": False}),
            ("instances", {"sop_instance_uid": f"{series}.1", "series_uid": series, "first_revision": 1, "arrival_id": "a",
                           "path": f"a/{number}.dcm", "sha256": "00", "stored_at": long_ago, "header": header.to_json()}),
            ("series_arrivals", {"series_uid": series, "arrival_id": "a"}),
            ("audit", {"at": long_ago, "case_id": f"c-{state}", "event": f"case.{state}", "detail": {"n": number}}),
        ]  # fmt: skip
    for case, destination, its_state in [
        (ALERT, "email", DeliveryState.PENDING),
        *((ALERT, f"to-{state}", state) for state in DeliveryState),
        (f"c-{CaseState.DELIVERED}", "email", DeliveryState.SENT),
        (f"c-{CaseState.FAILED}", "email", DeliveryState.REFUSED),
    ]:
        rows.append(
            ("deliveries", {"case_id": case, "destination": destination, "state": str(its_state), "planned_at": long_ago,
                            "attempts": 2, "lease_until": long_ago, "detail": "why"})
        )  # fmt: skip
    rows += [
        ("outbox", {"stage": "deliver", "case_id": ALERT, "destination": "email", "created_at": long_ago, "not_before": long_ago}),
        ("alerts", {"case_id": ALERT, "raised_at": long_ago}),
    ]
    with connected(url) as connection:
        there = {name: {c["name"] for c in inspect(connection).get_columns(name)} for name in inspect(connection).get_table_names()}
        for name, values in rows:
            if name in there:
                table = tables.metadata.tables[name]
                connection.execute(table.insert().values({k: v for k, v in values.items() if k in there[name]}))


def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    with connected(url) as connection:
        return {
            name: [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2"))]
            for name in inspect(connection).get_table_names()
            if name not in {schema.REVISION_TABLE, tables.schema.name}
        }


def columns(url: str) -> dict[str, set[str]]:
    with connected(url) as connection:
        return {name: {c["name"] for c in inspect(connection).get_columns(name)} for name in inspect(connection).get_table_names()}


def test_every_layout_has_a_dump_for_both_databases() -> None:
    files = {path.name for path in layouts.FOLDER.glob("*.sql")}
    assert files == {f"{name}.{dialect}.sql" for name in layouts.NAMES for dialect in ("sqlite", "postgresql")}
    assert len(layouts.NAMES) == 9


@pytest.mark.parametrize("layout", layouts.NAMES)
def test_an_old_ledger_is_migrated_with_every_row(url: str, clock: Clock, layout: str) -> None:
    layouts.create(url, layout)
    seed(url)
    before = contents(url)
    Ledger(url, clock).close()
    after = contents(url)
    for name, rows in before.items():
        kept = [{column: row[column] for column in rows[0]} for row in after[name]] if rows else after[name]
        assert kept == rows, name
    assert {name: set(t.columns.keys()) for name, t in tables.metadata.tables.items()} == {
        name: found for name, found in columns(url).items() if name != schema.REVISION_TABLE
    }
    with connected(url) as connection:
        assert schema.differences(connection) == []
        assert schema.current_revision(connection) == schema.newest_revision()
        assert connection.scalars(text("SELECT version FROM schema_version")).all() == [3], "programs of layouts 1 and 2 refuse it"
        assert all(connection.scalars(text("SELECT planned_at FROM deliveries")))


@pytest.mark.parametrize("layout", layouts.NAMES)
def test_a_pending_alert_of_an_old_ledger_is_mailed_and_its_case_ends(url: str, clock: Clock, layout: str) -> None:
    layouts.create(url, layout)
    seed(url)
    ledger = Ledger(url, clock)
    assert [posted.work for posted in ledger.outbox.due(clock.now)] == [Work(Stage.DELIVER, ALERT, "email")]
    overdue = {delivery.destination for delivery in ledger.deliveries.overdue(clock.now)}
    assert overdue == {"email", "to-pending", "to-sending"}
    assert ledger.deliveries.begin(ALERT, "email", lease_s=60, holder="host/1/1") is not None
    limits = MailLimits(20, timedelta(minutes=15), timedelta(hours=12))
    assert ledger.digests.decide(ALERT, "email", limits, alerts_apart=True, lease_s=60).verdict.mode is SendMode.ALONE
    event = MailEvent("k", ALERT, "email", MailKind.ALERT)
    assert ledger.mail_receipts.begin(event, "<m>", ["team@x"]) is None
    ledger.mail_receipts.end(event, ["team@x"], MailReceiptState.ACCEPTED)
    assert ledger.deliveries.end(ALERT, "email", DeliveryState.SENT, detail="ok") is False
    assert ledger.alerts.acknowledge(ALERT, "Dr. First", "team") is not None
    assert ledger.commitment_requests_sent.expire(clock.now) == 1
    for name in ("to-pending", "to-sending", "to-awaiting"):
        assert ledger.deliveries.begin(ALERT, name, lease_s=60) is not None
        ledger.deliveries.end(ALERT, name, DeliveryState.SENT, detail="ok")
    case = ledger.cases.get(ALERT)
    assert case is not None
    assert (case.state, case.failed_stage) == (CaseState.FAILED, Stage.DELIVER), "one of its deliveries was refused before"
    ledger.close()


@pytest.mark.parametrize("layout", layouts.NAMES)
def test_the_cases_of_an_old_ledger_go_on(url: str, clock: Clock, layout: str) -> None:
    layouts.create(url, layout)
    seed(url)
    ledger = Ledger(url, clock)
    assert {case.state for case in ledger.cases.overdue(clock.now)} == {CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED}
    [series] = ledger.intake.receiving()
    assert series.new_instances == 1
    way = [CaseState.RECEIVING, CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED]
    for start in way:
        case_id = f"c-{start}"
        for before, after in zip(way[way.index(start) :], way[way.index(start) + 1 :], strict=False):
            assert ledger.cases.advance(case_id, before, after)
        assert ledger.deliveries.plan(
            case_id, CaseState.DETECTED, CaseState.DELIVERING, {"email": None}, escalation=[timedelta(minutes=10)]
        )
        assert ledger.deliveries.begin(case_id, "email", lease_s=60) is not None
        assert ledger.deliveries.end(case_id, "email", DeliveryState.SENT, detail="ok")
    assert ledger.cases.retry(f"c-{CaseState.FAILED}") is Stage.RENDER
    assert ledger.cases.retry(f"c-{CaseState.NOT_ANALYSED}") is Stage.PREPARE
    clock.forward(700)
    assert {case_id for case_id, _ in ledger.alerts.fire(clock.now)} == {f"c-{start}" for start in way}
    ledger.close()


@pytest.mark.parametrize("layout", ["1_first", "5_letters", "9_append_only"])
def test_programs_that_open_an_old_ledger_together_migrate_it_once(url: str, clock: Clock, layout: str) -> None:
    layouts.create(url, layout)
    seed(url)
    before = contents(url)
    program = f"from ledger.store import Ledger; Ledger({url!r}).close()"
    started = [
        subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE) for _ in range(3)
    ]
    for one in started:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors.decode()
    assert {name: len(rows) for name, rows in contents(url).items() if name in before} == {n: len(r) for n, r in before.items()}
    ledger = Ledger(url, clock)
    assert ledger.cases.get(delivering(ledger, folder=None)) is not None
    ledger.close()


def test_threads_of_one_program_migrate_two_old_ledgers_together(url: str, tmp_path: Path) -> None:
    urls = [url, f"sqlite:///{tmp_path / 'other.sqlite'}"]
    for each in urls:
        layouts.create(each, "1_first")
    opened: list[Ledger] = []
    threads = [threading.Thread(target=lambda u=each: opened.append(Ledger(u))) for each in urls * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6
    for ledger in opened:
        ledger.close()


def test_a_ledger_of_a_later_version_is_refused_untouched(url: str, clock: Clock) -> None:
    ledger = Ledger(url, clock)
    queued(ledger)
    ledger.close()
    later = {tables.schema.name: str(tables.SCHEMA_VERSION + 1), schema.REVISION_TABLE: "'9999'"}
    for name, value in later.items():
        with connected(url) as connection:
            [column] = [c["name"] for c in inspect(connection).get_columns(name)]
            before = connection.scalar(text(f"SELECT {column} FROM {name}"))
            connection.execute(text(f"UPDATE {name} SET {column} = {value}"))
        with pytest.raises(ConfigurationError, match="this ledger has layout"):
            Ledger(url, clock)
        with connected(url) as connection:
            assert str(connection.scalar(text(f"SELECT {column} FROM {name}"))) == value.strip("'")
            connection.execute(text(f"UPDATE {name} SET {column} = '{before}'"))
    Ledger(url, clock).close()


DAMAGE = {
    "DROP TABLE mail_places": "mail_places: the table is missing",
    "ALTER TABLE deliveries DROP COLUMN digest": "deliveries: column digest is missing",
    "ALTER TABLE cases ADD COLUMN hue INTEGER": "cases: column hue is unknown",
    "DROP INDEX outbox_waiting": "outbox: index outbox_waiting is missing",
    "CREATE UNIQUE INDEX one_each ON deliveries (state)": "deliveries: index one_each is unknown",
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_ledger_that_does_not_match_is_refused_with_the_difference(url: str, clock: Clock, statement: str) -> None:
    Ledger(url, clock).close()
    with connected(url) as connection:
        connection.execute(text(statement))
    with pytest.raises(LedgerNotUsable) as caught:
        Ledger(url, clock)
    assert [str(one) for one in caught.value.differences] == [DAMAGE[statement]]
    assert DAMAGE[statement] in caught.value.problem
    assert "backup" in caught.value.remedy


@pytest.mark.parametrize("trigger", ["audit_no_update", "audit_no_delete"])
def test_an_audit_trail_that_can_be_changed_is_refused(url: str, clock: Clock, trigger: str) -> None:
    Ledger(url, clock).close()
    with connected(url) as connection:
        connection.execute(text(f"DROP TRIGGER {trigger}" + (" ON audit" if url.startswith("postgresql") else "")))
    with pytest.raises(LedgerNotUsable, match=f"audit: trigger {trigger} is missing"):
        Ledger(url, clock)


@pytest.mark.servers
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE letters ALTER COLUMN kind TYPE TEXT", "letters: column kind is TEXT where VARCHAR(16) is needed"),
        ("ALTER TABLE letters ALTER COLUMN kind DROP NOT NULL", "letters: column kind is nullable where not nullable is needed"),
        ("ALTER TABLE escalations DROP CONSTRAINT escalations_case_id_fkey", "escalations: foreign key case_id is missing"),
        ("ALTER TABLE cases DROP CONSTRAINT cases_case_key_key", "cases: constraint case_key is missing"),
    ],
)  # fmt: skip
def test_so_is_a_column_of_another_kind(url: str, clock: Clock, statement: str, said: str) -> None:
    Ledger(url, clock).close()
    with connected(url) as connection:
        connection.execute(text(statement))
    with pytest.raises(LedgerNotUsable) as caught:
        Ledger(url, clock)
    assert [str(one) for one in caught.value.differences] == [said]


def test_what_others_keep_in_the_same_database_is_left_alone(url: str, clock: Clock) -> None:
    Ledger(url, clock).close()
    with connected(url) as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE INDEX cases_by_time ON cases (created_at)"))
    Ledger(url, clock).close()
    assert "notes" in columns(url)


def test_an_old_ledger_that_is_damaged_stays_as_it_was(url: str, clock: Clock) -> None:
    layouts.create(url, "5_letters")
    seed(url)
    with connected(url) as connection:
        connection.execute(text("DROP TABLE outbox"))
    before, rows = columns(url), contents(url)
    with pytest.raises(LedgerNotUsable, match="outbox: the table is missing"):
        Ledger(url, clock)
    assert (columns(url), contents(url)) == (before, rows)


def _add_column(model: MetaData) -> None:
    model.tables["cases"].append_column(Column("hue", Integer))


def _add_table(model: MetaData) -> None:
    Table("extra", model, Column("id", Integer, primary_key=True))


def _add_index(model: MetaData) -> None:
    Index("cases_by_time", model.tables["cases"].c.created_at)


def _widen(model: MetaData) -> None:
    model.tables["cases"].c.side.type = String(80)


def _require(model: MetaData) -> None:
    model.tables["cases"].c.side.nullable = False


@pytest.mark.parametrize("change", [_add_column, _add_table, _add_index, _widen, _require])
def test_a_change_of_a_table_without_a_revision_is_noticed(
    url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """Any test that opens a ledger then fails, this one shows that it does."""
    model = MetaData()
    for table in tables.metadata.sorted_tables:
        table.to_metadata(model)
    Ledger(url, clock).close()
    change(model)
    monkeypatch.setattr(tables, "metadata", model)
    with pytest.raises(LedgerNotUsable, match="do not match this version"):
        Ledger(url, clock)


def test_the_scripts_are_one_line_of_revisions_and_part_of_the_package() -> None:
    revisions = [script.revision for script in schema._scripts().walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)
    assert schema._scripts().get_heads() == [schema.newest_revision()]
    assert len(revisions) == len(list(schema.SCRIPTS.glob("[0-9]*.py")))
    assert (schema.SCRIPTS / "__init__.py").is_file(), "setuptools takes it into a wheel"
