"""Restarts of the daemon: after an orderly end, after a crash at any line, and with a changed disk or database."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from conversion.headers import read_instance
from corewatch.arrival import ArrivalSource
from corewatch.identity import case_key
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from daemon.intake.assembler import SINGLE_FILE_RETRY
from tests.support.site import Crash, Site, crash_at, open_site
from tests.support.spool import head, send_all

S = CaseState


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


def test_left_overs_are_removed_but_not_what_is_being_written(site: Site) -> None:
    sender = site.sender()
    sender.send(head()[:5])
    old, new = sender.writer.folder / "a.dcm.partial", sender.writer.folder / "b.dcm.partial"
    empty, fresh = site.received / "20260101T000000-empty", site.received / "20260101T000000-fresh"
    for folder in (empty, fresh):
        folder.mkdir()
    for path, age in ((old, 600), (new, 0), (empty, 600), (fresh, 0)):
        if not path.is_dir():
            path.write_bytes(b"x")
        seconds = site.clock().timestamp() - age
        os.utime(path, (seconds, seconds))
    site.restart()
    site.step(0)
    assert [p.exists() for p in (old, new, empty, fresh)] == [False, True, False, True]
    assert site.only().state is S.RECEIVING


def test_a_folder_that_gets_its_record_later_is_indexed(site: Site) -> None:
    late = site.received / "20260301T030000-late"
    late.mkdir(parents=True)
    site.step(0.2)
    sender = site.sender()
    sender.send(head())
    sender.release()
    shutil.copytree(sender.writer.folder, late, dirs_exist_ok=True)
    shutil.rmtree(sender.writer.folder)
    site.step(0.2)
    site.step(1.2)
    assert [c.state for c in site.cases()] == [S.QUEUED]


@pytest.mark.parametrize("record", [None, b"", b"{not json", b"{}"])
def test_instances_without_a_readable_arrival_record_still_count(site: Site, record: bytes | None) -> None:
    sender = send_all(site.received, site.clock, head())
    path = sender.writer.folder / "arrival.json"
    path.unlink() if record is None else path.write_bytes(record)
    site.step(2)
    assert site.only().state is S.QUEUED


def test_a_queued_case_without_its_files_fails(site: Site) -> None:
    sender = send_all(site.received, site.clock, head())
    site.step(2)
    next(sender.writer.folder.glob("*.dcm")).unlink()
    site.restart()
    site.step(1)
    case = site.only()
    assert (case.state, case.failed_stage) == (S.FAILED, Stage.PREPARE)
    assert "no longer on the disk" in case.detail


def test_a_complete_series_without_its_files_fails(site: Site) -> None:
    sender = site.sender()
    sender.send(head())
    site.step(1)
    next(sender.writer.folder.glob("*.dcm")).unlink()
    sender.release()
    site.step(2)
    assert site.only().state is S.FAILED


def test_a_folder_that_somebody_removed_ends(site: Site) -> None:
    sender = site.sender()
    sender.send(head())
    site.step(1)
    shutil.rmtree(sender.writer.folder)
    site.step(1)
    site.step(20)
    assert site.only().state is S.FAILED
    assert sender.arrival_id in site.ledger.intake.finished_arrivals()


def test_an_interrupted_supersession_is_completed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    images = head()
    send_all(site.received, site.clock, images[:3])
    site.step(2)
    send_all(site.received, site.clock, images[3:])
    monkeypatch.setattr("daemon.intake.triage.Triage.supersede", lambda *_: None)
    site.step(0.2)
    site.step(21)
    assert {c.revision: c.state for c in site.cases()} == {1: S.NOT_ANALYSED, 2: S.QUEUED}
    monkeypatch.undo()
    site.restart()
    site.step(0)
    assert {c.revision: c.state for c in site.cases()} == {1: S.SUPERSEDED, 2: S.QUEUED}


def test_single_file_cases_without_triage_get_it_at_the_next_start(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.intake.triage.Triage.queue_aligned", lambda *_: None)
    monkeypatch.setattr("daemon.intake.triage.Triage.reject_single_file", lambda *_: None)
    site.sender().send_aligned(b"a nifti")
    site.sender().send([("1.9.1", b"no DICOM")])
    site.step(0.2)
    assert {c.state for c in site.cases()} == {S.RECEIVING}
    monkeypatch.undo()
    site.restart()
    site.step(0.2)
    assert {c.state for c in site.cases()} == {S.QUEUED, S.NOT_ANALYSED}


def test_single_file_cases_whose_triage_failed_get_it_without_a_restart(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object, **__: object) -> bool:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    aligned, unreadable = site.sender(), site.sender()
    aligned.send_aligned(b"a nifti")
    unreadable.send([("1.9.1", b"no DICOM")])
    monkeypatch.setattr(site.ledger.cases, "advance", locked)
    monkeypatch.setattr(site.ledger.deliveries, "plan", locked)
    for _ in range(2):
        with pytest.raises(OperationalError):
            site.step(0.2)
    site.step(0.2)
    assert {c.state for c in site.cases()} == {S.RECEIVING}
    monkeypatch.undo()
    site.step(1)
    site.step(SINGLE_FILE_RETRY.total_seconds())
    site.step(SINGLE_FILE_RETRY.total_seconds())
    assert sorted((c.state, c.reason) for c in site.cases()) == [(S.NOT_ANALYSED, Reason.UNREADABLE), (S.QUEUED, None)]
    assert "DICOM" in site.cases(S.NOT_ANALYSED)[0].detail, "the reason that was found then"


# crashes ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("room", "method", "call"),
    [
        ("intake", "register", 1),
        ("intake", "register", 3),
        ("intake", "ingest", 1),
        ("intake", "ingest", 2),
        ("intake", "ingest", 4),
        ("single_file_cases", "open_unreadable", 1),
        ("single_file_cases", "quarantine", 1),
        ("single_file_cases", "open_aligned", 1),
        ("intake", "finish", 1),
        ("intake", "finish", 2),
        ("cases", "advance", 1),
        ("cases", "advance", 2),
        ("cases", "supersede_earlier", 1),
        ("deliveries", "plan", 1),
        ("deliveries", "plan", 2),
    ],
)
def test_every_acknowledged_instance_is_in_one_current_case_whatever_crashes(
    site: Site, room: str, method: str, call: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.intake.spool_indexer.BATCH", 4)
    images = head("7", 14)
    undo = crash_at(getattr(site.ledger, room), method, call, after=after)
    crashed = False
    try:
        first = site.sender()
        first.send(images[:6])
        site.step(0.2)
        first.send([*images[6:11], ("1.9.1", b"no DICOM"), ("1.9.2", b"no DICOM either")])
        first.release()
        send_all(site.received, site.clock, head("8", 4), ae_title="CT1")
        site.sender(source=ArrivalSource.FOLDER).send_aligned(b"a nifti")
        site.step(0.2)
        site.step(1.2)
        send_all(site.received, site.clock, [*images[11:], *images[:5], *head("8", 5)[4:]])
        site.step(0.2)
        site.step(25)
    except Crash:
        crashed = True
    assert crashed, "the test must reach the line at which it crashes"
    undo()
    site.restart()
    # the senders repeat what they are not sure of, and send what they had not come to
    send_all(site.received, site.clock, [*images, ("1.9.1", b"no DICOM")])
    send_all(site.received, site.clock, head("8", 5), ae_title="CT1")
    site.sender(source=ArrivalSource.FOLDER).send_aligned(b"a nifti")
    for seconds in (0.2, 1.2, 25, 25):
        site.step(seconds)

    on_disk = {p.relative_to(site.received).as_posix() for p in site.received.glob("*/*") if p.suffix in {".dcm", ".gz"}}
    in_ledger = {p for folder in site.received.iterdir() for p in site.ledger.intake.known_paths(folder.name)}
    assert in_ledger == on_disk

    current = [c for c in site.cases() if c.state is not S.SUPERSEDED]
    by_series = {uid: [c for c in current if c.series_uid == uid] for uid in ("1.2.7", "1.2.8")}
    main, *earlier = sorted(by_series["1.2.7"], key=lambda c: -c.revision)
    (short,) = by_series["1.2.8"]
    assert {c.state for c in earlier} <= {S.QUEUED}, "until the newest has a result"
    assert (main.state, short.state, short.reason) == (S.QUEUED, S.NOT_ANALYSED, Reason.TOO_FEW_SLICES)
    paths = site.ledger.cases.instance_paths(main)
    uids = [read_instance(site.received / p).sop_instance_uid for p in paths]
    assert sorted(uids) == sorted(uid for uid, _ in images)
    assert main.case_key == case_key("1.2.7", uids)
    assert site.cases(S.RECEIVING) == []
    singles = [c for c in current if c.series_uid is None]
    assert [c.state for c in singles if c.aligned_path] == [S.QUEUED]
    bad = [c for c in singles if not c.aligned_path]
    assert bad
    assert {(c.state, c.reason) for c in bad} == {(S.NOT_ANALYSED, Reason.UNREADABLE)}
    queued = {c.case_id for c in site.cases(S.QUEUED)}
    assert queued <= {w.case_id for w in site.outbox() if w.stage is Stage.PREPARE}


def test_a_database_that_is_unavailable_is_retried(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    send_all(site.received, site.clock, head())
    monkeypatch.setattr(site.ledger.intake, "ingest", away)
    with pytest.raises(OperationalError):
        site.step(1)
    monkeypatch.undo()
    site.step(1)
    site.step(1)
    assert site.only().state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12
