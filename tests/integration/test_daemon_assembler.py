"""From stored images to queued cases: a real spool, a real ledger, a clock that the test moves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from config.delivery import ResultSeries
from conversion.headers import read_instance
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.identity import case_key
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from daemon.intake.arrivals import ABANDONED_AFTER
from daemon.intake.assembler import DECIDE_ATTEMPTS, Assembler
from daemon.intake.spool_indexer import READ_ATTEMPTS
from ledger.spool import ArrivalEnded
from outputs.dicom.object_kinds import ObjectKind, series_description
from tests.support.site import Site, open_site
from tests.support.spool import START, head, send_all

S = CaseState


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


# the main way -------------------------------------------------------------------------------------------------------------------


def test_a_released_series_is_queued_after_the_grace(site: Site) -> None:
    images = head()
    sender = site.sender()
    sender.send(images[:5])
    site.step(1)
    assert site.only().state is S.RECEIVING
    sender.send(images[5:])
    sender.release()
    site.step(0.2)
    assert site.only().state is S.RECEIVING
    site.step(0.9)
    case = site.only()
    assert (case.state, case.revision, case.model) == (S.QUEUED, 1, None)
    assert case.case_key == case_key("1.2.7", [uid for uid, _ in images])
    assert site.outbox() == [Work(Stage.PREPARE, case.case_id)]
    assert len(site.ledger.cases.instance_paths(case)) == 12
    assert case.last_stored_at == START + timedelta(seconds=1)


def test_a_series_on_an_open_association_waits_for_the_idle_time(site: Site) -> None:
    sender = site.sender()
    sender.send(head())
    site.step(19)
    assert site.only().state is S.RECEIVING
    site.step(1.1)
    assert site.only().state is S.QUEUED
    assert sender.arrival_id not in site.ledger.intake.finished_arrivals()


def test_the_series_waits_for_the_rest_on_another_association(site: Site) -> None:
    images = head()
    first, second = site.sender(), site.sender()
    first.send(images[:7])
    second.send(images[11:])
    first.release()
    for _ in range(5):
        site.step(2)
        assert site.only().state is S.RECEIVING
    second.send(images[7:11])
    second.release()
    site.step(0.2)
    site.step(1.2)
    assert site.only().state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12


def test_the_series_waits_for_an_empty_association_of_the_same_sender(site: Site) -> None:
    send_all(site.received, site.clock, head())
    other = site.sender()
    site.step(3)
    assert site.only().state is S.RECEIVING
    other.send(head("8", 3))  # the next series: it is not the rest of this one
    other.release()
    site.step(0.2)
    assert [c.series_uid for c in site.cases(S.QUEUED)] == ["1.2.7"]


def test_the_series_does_not_wait_for_another_sender(site: Site) -> None:
    send_all(site.received, site.clock, head())
    site.sender(ae_title="OTHER")
    site.step(3)
    assert site.only().state is S.QUEUED


def test_an_aborted_association_waits_for_the_retry_which_counts_once(site: Site) -> None:
    images = head()
    first = site.sender()
    first.send(images[:6])
    first.abort()
    site.step(15)
    assert site.only().state is S.RECEIVING
    second = site.sender()
    for start in range(0, 6, 2):  # repeats what was here, slowly: longer than the idle time
        second.send(images[start : start + 2])
        site.step(12)
        assert site.only().state is S.RECEIVING
    second.send(images[6:])
    second.release()
    site.step(0.2)
    site.step(1.2)
    assert site.only().state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12


def test_an_arrival_whose_sender_is_silent_ends_after_the_idle_time(site: Site) -> None:
    sender = site.sender()
    sender.send(head()[:10])
    site.step(5)
    site.step(16)
    assert site.only().state is S.QUEUED
    site.step(ABANDONED_AFTER.total_seconds())
    site.step(0.2)
    assert sender.arrival_id in site.ledger.intake.finished_arrivals()


def test_nothing_is_acknowledged_in_an_abandoned_arrival(site: Site) -> None:
    """A sender may keep an association alive by C-ECHO for hours, and then send again."""
    sender = site.sender()
    sender.send(head()[:10])
    site.step(ABANDONED_AFTER.total_seconds())
    with pytest.raises(ArrivalEnded):
        sender.send(head()[10:11])
    site.step(0.2)
    with pytest.raises(ArrivalEnded):
        sender.send(head()[11:])
    again = site.sender()
    again.send(head()[11:])
    site.step(0.2)
    newest = max(site.cases(), key=lambda case: case.revision)
    assert len(site.ledger.cases.instance_paths(newest)) == 12


def test_instances_with_a_damaged_closing_record_become_a_case(site: Site) -> None:
    sender = site.sender()
    sender.send(head())
    (sender.writer.folder / "closed.json").write_bytes(b"\0" * 40)
    site.step(1)
    site.step(21)
    assert site.only().state is S.QUEUED
    assert sender.arrival_id in site.ledger.intake.finished_arrivals()


def test_a_large_instance_that_is_being_received_keeps_its_arrival_open(site: Site) -> None:
    sender = site.sender()
    sender.send(head()[:1])
    site.step(1)
    coming = sender.writer.begin_instance("1.2.7.2")
    coming.write(b"first half")
    (partial,) = sender.writer.folder.glob("*.part*")
    site.clock.tick(ABANDONED_AFTER.total_seconds())
    written = site.clock().timestamp() - 60
    os.utime(partial, (written, written))
    os.utime(sender.writer.folder, (START.timestamp(), START.timestamp()))
    site.step(0)
    assert not sender.writer.ended
    site.step(ABANDONED_AFTER.total_seconds())
    assert sender.writer.ended
    coming.discard()


def test_by_products_of_a_study_end_with_their_reason_and_without_a_mail(site: Site) -> None:
    send_all(site.received, site.clock, [*head("7"), *head("8", SeriesDescription="Head 3.0 nativ")])
    site.step(2)
    (case,) = site.cases(S.NOT_ANALYSED)
    assert case.reason is Reason.NO_CONTRAST
    assert [w.stage for w in site.outbox()] == [Stage.PREPARE]
    assert case.case_key is not None, "an operator can have it analysed nevertheless"
    assert site.ledger.cases.retry(case.case_id) is Stage.PREPARE


def test_a_series_that_was_sent_alone_is_reported_whatever_the_reason(site: Site) -> None:
    send_all(site.received, site.clock, head(SeriesDescription="Head 3.0 nativ"))
    site.step(2)
    assert site.only().reason is Reason.NO_CONTRAST
    assert {w.destination for w in site.outbox()} == {"folder", "operators"}


def test_our_own_result_is_recorded_without_a_mail(site: Site) -> None:
    ours = head(
        slices=3, SOPClassUID=SecondaryCaptureImageStorage, SeriesDescription=series_description(ResultSeries(), ObjectKind.SC, 1)
    )
    send_all(site.received, site.clock, ours)
    site.step(25)
    assert (site.only().state, site.only().reason) == (S.NOT_ANALYSED, Reason.OWN_RESULT)
    assert site.outbox() == []


def test_a_cta_head_that_cannot_be_used_is_reported(site: Site) -> None:
    send_all(site.received, site.clock, head(slices=6))
    site.step(2)
    case = site.only()
    assert (case.state, case.reason) == (S.NOT_ANALYSED, Reason.TOO_FEW_SLICES)
    assert {w.destination for w in site.outbox()} == {"folder", "operators"}


def test_a_dropped_series_is_reported_whatever_the_reason(site: Site) -> None:
    both = [*head("7"), *head("8", SeriesDescription="Head nativ")]
    send_all(site.received, site.clock, both, source=ArrivalSource.FOLDER, email=("me@example.org",))
    site.step(2)
    (case,) = site.cases(S.NOT_ANALYSED)
    assert (case.reason, case.email) == (Reason.NO_CONTRAST, ("me@example.org",))
    assert {w.destination for w in site.outbox() if w.case_id == case.case_id} == {"folder", "operators"}


def test_series_of_one_association_are_cases_of_their_own(site: Site) -> None:
    mixed = [i for pair in zip(head("7"), head("8"), strict=True) for i in pair]
    send_all(site.received, site.clock, mixed)
    site.step(2)
    assert {c.series_uid for c in site.cases(S.QUEUED)} == {"1.2.7", "1.2.8"}


def test_an_aligned_head_is_queued_at_once(site: Site) -> None:
    sender = site.sender(source=ArrivalSource.FOLDER, email=("me@example.org",))
    sender.send_aligned(b"a nifti")
    site.step(0.2)
    case = site.only()
    assert (case.state, case.aligned_path, case.email) == (
        S.QUEUED,
        f"{sender.arrival_id}/aligned.nii.gz",
        ("me@example.org",),
    )
    sender.release()
    site.step(0.2)
    assert sender.arrival_id in site.ledger.intake.finished_arrivals()
    assert site.outbox() == [Work(Stage.PREPARE, case.case_id)]


# what cannot be read ------------------------------------------------------------------------------------------------------------


def test_unreadable_files_of_an_arrival_are_one_case(site: Site) -> None:
    sender = site.sender()
    sender.send([("1.9.1", b"no DICOM at all"), ("1.9.2", b"nor this"), *head()])
    sender.release()
    site.step(2)
    (bad,) = site.cases(S.NOT_ANALYSED)
    assert (bad.reason, bad.series_uid) == (Reason.UNREADABLE, None)
    assert len(site.cases(S.QUEUED)) == 1
    assert len(site.ledger.intake.known_paths(sender.arrival_id)) == 14
    assert {w.destination for w in site.outbox() if w.case_id == bad.case_id} == {"folder", "operators"}


def test_a_file_that_the_disk_has_damaged_is_not_indexed(site: Site) -> None:
    sender = site.sender()
    stored = sender.send(head())
    stored[7].path.write_bytes(stored[7].path.read_bytes()[:-2] + b"xx")
    sender.release()
    site.restart()
    site.step(2)
    (bad,) = site.cases(S.NOT_ANALYSED)
    assert "not those that were received" in bad.detail


def test_a_disk_that_fails_for_a_moment_loses_nothing(site: Site) -> None:
    broken = {"yes"}

    def read(path: Path) -> Instance:
        if broken and path.name.endswith(first.name[-12:]):
            raise OSError(5, "Input/output error")
        return read_instance(path)

    site.assembler = Assembler(site.ledger, site.settings, read)
    first = send_all(site.received, site.clock, head()).writer.folder
    first = sorted(first.glob("*.dcm"))[0]
    site.step(0.2)
    site.step(0.2)
    broken.clear()
    site.step(0.2)
    site.step(1)
    assert len(site.ledger.cases.instance_paths(site.only())) == 12
    assert site.only().state is S.QUEUED


def test_a_disk_that_keeps_failing_fails_the_case(site: Site) -> None:
    def read(path: Path) -> Instance:
        raise OSError(5, "Input/output error")

    site.assembler = Assembler(site.ledger, site.settings, read)
    send_all(site.received, site.clock, head(slices=1))
    for _ in range(READ_ATTEMPTS):
        assert site.cases() == []
        site.step(0.2)
    assert site.only().state is S.FAILED
    assert "disk" in site.only().detail


def test_a_defect_in_reading_one_header_does_not_stop_the_others(site: Site) -> None:
    def read(path: Path) -> Instance:
        header = read_instance(path)
        if header.instance_number == 5:
            raise ZeroDivisionError
        return header

    site.assembler = Assembler(site.ledger, site.settings, read)
    send_all(site.received, site.clock, head())
    site.step(2)
    site.step(20)
    states = {c.series_uid: c.state for c in site.cases()}
    assert states == {None: S.NOT_ANALYSED, "1.2.7": S.QUEUED}


def test_an_arrival_that_cannot_be_indexed_does_not_stop_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = send_all(site.received, site.clock, head("8"))
    register = site.ledger.intake.register

    def refuse(arrival: Arrival) -> None:
        if arrival.arrival_id == bad.arrival_id:
            raise ValueError("as expected")
        register(arrival)

    monkeypatch.setattr(site.ledger.intake, "register", refuse)
    send_all(site.received, site.clock, head("7"))
    for _ in range(5):
        site.step(1)
    assert [c.series_uid for c in site.cases(S.QUEUED)] == ["1.2.7"]
    assert capsys.readouterr().out.count("arrival_not_indexed") == 1
    monkeypatch.undo()
    site.step(1)
    assert len(site.cases(S.QUEUED)) == 2


def test_a_series_with_all_its_instances_does_not_wait_for_an_open_association(site: Site) -> None:
    sender = site.sender()
    images = head(NumberOfSeriesRelatedInstances=12)
    sender.send(images[:11])
    site.step(0.2)
    sender.send(images[11:])
    for _ in range(4):
        site.step(0.2)
        assert site.only().state is S.RECEIVING
    for _ in range(6):
        site.step(0.2)
    assert site.only().state is S.QUEUED


def test_a_disk_that_is_not_mounted_fails_no_case(site: Site) -> None:
    send_all(site.received, site.clock, head())
    site.step(2)
    site.received.rename(site.received.with_name("elsewhere"))
    site.restart()
    site.step(1)
    assert site.only().state is S.QUEUED


def test_a_decision_that_fails_repeatedly_fails_the_case(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.intake.triage.select", lambda *_: 1 / 0)
    send_all(site.received, site.clock, head())
    for _ in range(DECIDE_ATTEMPTS + 1):
        site.step(1.5)
    assert site.only().state is S.FAILED
    send_all(site.received, site.clock, head("8"))
    monkeypatch.undo()
    site.step(2)
    assert [c.series_uid for c in site.cases(S.QUEUED)] == ["1.2.8"]


def test_values_that_the_ledger_cannot_store_do_not_stop_the_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    take = site.ledger.intake.ingest

    def refuse(arrival: object, files: list[object], **how: object) -> object:
        if any(f.header.instance_number == 5 for f in files):  # type: ignore[attr-defined]
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return take(arrival, files, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(site.ledger.intake, "ingest", refuse)
    send_all(site.received, site.clock, head())
    site.step(2)
    assert [c.reason for c in site.cases(S.NOT_ANALYSED)] == [Reason.UNREADABLE]
    (series,) = site.ledger.intake.receiving()
    assert series.new_instances == 11
