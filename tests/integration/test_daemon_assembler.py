"""From stored images to queued cases: a real spool, a real ledger, a clock of the test's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from config.settings import (
    DeliverSettings,
    EmailDestination,
    FolderDestination,
    SeriesRule,
    SeriesSettings,
    Settings,
)
from conversion.headers import read_instance
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.identity import case_key
from corewatch.instance import Instance
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from daemon.arrivals import ABANDONED_AFTER
from daemon.assembler import DECIDE_ATTEMPTS, SINGLES_AFTER, Assembler
from daemon.taking import READ_ATTEMPTS
from ledger.cases import Case
from ledger.store import Ledger
from tests.support.spool import START, Sender, TestClock, head, image, send_all

S = CaseState


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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = Settings(
        data_dir=tmp_path / "data",
        series=SeriesSettings(idle_s=20, grace_s=1, rules=(SeriesRule(name="cta-head", min_slices=8, min_coverage_mm=24),)),
        deliver=DeliverSettings(folder=FolderDestination(path=tmp_path / "results"), email=_email()),
    )
    clock = TestClock()
    ledger = Ledger(settings.database_url, clock)
    made = Site(settings, clock, ledger, Assembler(ledger, settings))
    yield made
    made.ledger.close()


def _email() -> EmailDestination:
    return EmailDestination.model_validate({"host": "localhost", "from": "corewatch@example.org", "to": ["stroke@example.org"]})


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


def test_the_rest_on_another_association_is_waited_for(site: Site) -> None:
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


def test_an_association_of_the_same_sender_that_has_brought_nothing_yet_is_waited_for(site: Site) -> None:
    send_all(site.received, site.clock, head())
    other = site.sender()
    site.step(3)
    assert site.only().state is S.RECEIVING
    other.send(head("8", 3))  # the next series: it is not the rest of this one
    other.release()
    site.step(0.2)
    assert [c.series_uid for c in site.cases(S.QUEUED)] == ["1.2.7"]


def test_another_sender_is_not_waited_for(site: Site) -> None:
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


def test_an_arrival_whose_program_died_ends_after_the_idle_time(site: Site) -> None:
    sender = site.sender()
    sender.send(head()[:10])
    site.step(5)
    site.step(16)
    assert site.only().state is S.QUEUED
    site.step(ABANDONED_AFTER.total_seconds())
    assert sender.arrival_id in site.ledger.intake.finished_arrivals()


def test_the_by_products_of_an_examination_end_with_their_reason_and_without_a_mail(site: Site) -> None:
    send_all(site.received, site.clock, [*head("7"), *head("8", SeriesDescription="Head 3.0 nativ")])
    site.step(2)
    (case,) = site.cases(S.NOT_ANALYSED)
    assert case.reason is Reason.NO_CONTRAST
    assert [w.stage for w in site.outbox()] == [Stage.PREPARE]
    assert case.case_key is not None, "an operator can have it analysed nevertheless"
    assert site.ledger.cases.retry(case.case_id) is Stage.PREPARE


def test_a_series_that_was_sent_alone_gets_an_answer_whatever_the_reason(site: Site) -> None:
    send_all(site.received, site.clock, head(SeriesDescription="Head 3.0 nativ"))
    site.step(2)
    assert site.only().reason is Reason.NO_CONTRAST
    assert {w.destination for w in site.outbox()} == {"folder", "operators"}


def test_a_cta_head_that_cannot_be_used_is_reported(site: Site) -> None:
    send_all(site.received, site.clock, head(slices=6))
    site.step(2)
    case = site.only()
    assert (case.state, case.reason) == (S.NOT_ANALYSED, Reason.TOO_FEW_SLICES)
    assert {w.destination for w in site.outbox()} == {"folder", "operators"}


def test_who_drops_a_series_gets_an_answer_whatever_the_reason(site: Site) -> None:
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


# again, and differently ---------------------------------------------------------------------------------------------------------


def test_a_late_slice_makes_a_revision_whose_result_supersedes(site: Site) -> None:
    images = head()
    send_all(site.received, site.clock, images[:10])
    site.step(2)
    first = site.only()
    assert first.state is S.QUEUED
    send_all(site.received, site.clock, images[10:])
    site.step(0.2)
    site.step(3)
    (second,) = site.cases(S.RECEIVING)
    assert second.revision == 2
    assert site.ledger.cases.get(first.case_id).state is S.QUEUED  # type: ignore[union-attr]
    site.step(20)
    second = site.ledger.cases.get(second.case_id)  # type: ignore[assignment]
    first = site.ledger.cases.get(first.case_id)  # type: ignore[assignment]
    assert (second.state, first.state) == (S.QUEUED, S.QUEUED), "the first may be the only one that gets a result"
    assert len(site.ledger.cases.instance_paths(second)) == 12
    assert len(site.ledger.cases.instance_paths(first)) == 10
    assert second.case_key == case_key("1.2.7", [uid for uid, _ in images])
    site.ledger.cases.advance(second.case_id, S.QUEUED, S.PREPARED)
    site.ledger.cases.advance(second.case_id, S.PREPARED, S.DETECTED)
    first = site.ledger.cases.get(first.case_id)  # type: ignore[assignment]
    assert (first.state, first.superseded_by) == (S.SUPERSEDED, second.case_id)


@pytest.mark.parametrize("end", [S.NOT_ANALYSED, S.FAILED])
def test_a_revision_that_ends_without_a_result_leaves_the_earlier_one_alone(site: Site, end: CaseState) -> None:
    send_all(site.received, site.clock, head()[:10])
    site.step(2)
    first = site.only()
    for before, after in (
        (S.QUEUED, S.PREPARED),
        (S.PREPARED, S.DETECTED),
        (S.DETECTED, S.DELIVERING),
        (S.DELIVERING, S.DELIVERED),
    ):
        site.ledger.cases.advance(first.case_id, before, after)
    send_all(site.received, site.clock, head()[10:])
    site.step(0.2)
    site.step(21)
    (second,) = site.cases(S.QUEUED)
    facts = {"reason": Reason.ALIGNMENT_NOT_TRUSTED} if end is S.NOT_ANALYSED else {"failed_stage": Stage.PREPARE}
    site.ledger.cases.advance(second.case_id, S.QUEUED, end, **facts)
    site.restart()
    site.step(1)
    assert {c.revision: c.state for c in site.cases()} == {1: S.DELIVERED, 2: end}


def test_a_late_stray_that_spoils_the_series_does_not_take_the_result_back(site: Site) -> None:
    send_all(site.received, site.clock, head())
    site.step(2)
    first = site.only()
    # the thick reconstruction of a careless scanner, in the same series: the series as a whole is now too coarse
    strays = [image("7", 1000 + n, SliceThickness=10.0, SeriesDescription="nativ") for n in range(14)]
    send_all(site.received, site.clock, strays)
    site.step(0.2)
    site.step(21)
    states = {c.revision: c.state for c in site.cases()}
    assert states == {1: S.QUEUED, 2: S.NOT_ANALYSED}
    site.restart()
    site.step(1)
    assert site.ledger.cases.get(first.case_id).state is S.QUEUED  # type: ignore[union-attr]


def test_a_newer_revision_replaces_one_that_was_not_analysed(site: Site) -> None:
    images = head()
    send_all(site.received, site.clock, images[:3])
    site.step(2)
    assert site.only().reason is Reason.TOO_FEW_SLICES
    send_all(site.received, site.clock, images[3:6])
    site.step(0.2)
    site.step(21)
    assert [c.state for c in sorted(site.cases(), key=lambda c: c.revision)] == [S.SUPERSEDED, S.NOT_ANALYSED]
    send_all(site.received, site.clock, images[6:])
    site.step(0.2)
    site.step(21)
    assert [c.state for c in sorted(site.cases(), key=lambda c: c.revision)] == [S.SUPERSEDED, S.SUPERSEDED, S.QUEUED]


def test_the_same_series_again_makes_no_case(site: Site) -> None:
    send_all(site.received, site.clock, head())
    site.step(2)
    again = send_all(site.received, site.clock, head())
    site.step(2)
    site.step(30)
    assert site.only().revision == 1
    assert again.arrival_id in site.ledger.intake.finished_arrivals()


def without_files(site: Site, state: CaseState, **facts: object) -> Case:
    """A case that ended so, and whose files retention has removed."""
    sender = send_all(site.received, site.clock, head())
    site.step(2)
    case = site.only()
    ways = {S.FAILED: [S.FAILED], S.DELIVERED: [S.PREPARED, S.DETECTED, S.DELIVERING, S.DELIVERED]}
    before = S.QUEUED
    for after in ways[state]:
        site.ledger.cases.advance(case.case_id, before, after, **facts)
        before = after
    shutil.rmtree(sender.writer.folder)
    site.ledger.cases.mark_files_removed(case.case_id)
    site.clock.tick(86400)
    return case


def test_a_series_without_a_result_that_is_sent_again_after_its_files_were_removed_is_analysed(site: Site) -> None:
    first = without_files(site, S.FAILED, failed_stage=Stage.PREPARE, detail="x")
    again = send_all(site.received, site.clock, head())
    site.step(0.2)
    site.step(30)
    second, first = sorted(site.cases(), key=lambda c: -c.revision)
    assert (second.revision, second.state, first.state, first.superseded_by) == (2, S.QUEUED, S.SUPERSEDED, second.case_id)
    assert second.case_key == case_key("1.2.7", [uid for uid, _ in head()])
    assert first.case_key is None
    assert {p.split("/")[0] for p in site.ledger.cases.instance_paths(second)} == {again.arrival_id}
    assert Work(Stage.PREPARE, second.case_id) in site.outbox()


def test_a_series_with_a_result_that_is_sent_again_after_its_files_were_removed_says_whose_it_is(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    case = without_files(site, S.DELIVERED)
    again = send_all(site.received, site.clock, head())
    site.step(0.2)
    site.step(30)
    assert site.only().state is S.DELIVERED
    assert site.events(case)[-1] == "arrival.repeated"
    assert case.case_id in next(line for line in capsys.readouterr().out.splitlines() if "was here before" in line)
    assert {p.split("/")[0] for p in site.ledger.cases.instance_paths(case)} == {again.arrival_id}


def test_a_late_slice_after_retention_is_analysed_once_the_whole_series_was_sent_again(site: Site) -> None:
    first = without_files(site, S.DELIVERED)
    send_all(site.received, site.clock, head("7", 13)[12:])
    site.step(0.2)
    site.step(30)
    (second,) = site.cases(S.FAILED)
    assert (second.revision, "whole series again" in second.detail) == (2, True)
    send_all(site.received, site.clock, head("7", 13))
    site.step(0.2)
    site.step(30)
    (third,) = site.cases(S.QUEUED)
    assert (third.revision, len(site.ledger.cases.instance_paths(third))) == (3, 13)
    assert not [p for p in site.ledger.cases.instance_paths(third) if not (site.received / p).exists()]
    assert site.ledger.cases.get(first.case_id).state is S.DELIVERED, "until there is a new result"  # type: ignore[union-attr]


def test_a_case_that_an_operator_has_tried_again_keeps_its_images(site: Site) -> None:
    first = without_files(site, S.FAILED, failed_stage=Stage.PREPARE, detail="x")
    send_all(site.received, site.clock, head())
    site.step(0.2)
    assert site.ledger.cases.retry(first.case_id) is Stage.PREPARE
    site.step(30)
    second = next(c for c in site.cases() if c.revision == 2)
    assert (second.state, second.superseded_by) == (S.SUPERSEDED, first.case_id)
    assert site.ledger.cases.get(first.case_id).state is S.QUEUED  # type: ignore[union-attr]


def test_an_aligned_head_without_a_result_that_is_dropped_again_after_its_file_was_removed_is_analysed(site: Site) -> None:
    sender = site.sender(source=ArrivalSource.FOLDER)
    sender.send_aligned(b"a nifti")
    sender.release()
    site.step(1)
    first = site.only()
    site.ledger.cases.advance(first.case_id, S.QUEUED, S.FAILED, failed_stage=Stage.PREPARE, detail="x")
    shutil.rmtree(sender.writer.folder)
    site.sender(source=ArrivalSource.FOLDER).send_aligned(b"a nifti")
    site.step(1)
    (second,) = site.cases(S.QUEUED)
    assert second.case_key is not None
    assert site.ledger.cases.get(first.case_id).case_key is None  # type: ignore[union-attr]


def test_other_contents_under_a_known_uid_are_kept_aside(site: Site) -> None:
    send_all(site.received, site.clock, head())
    site.step(2)
    before = site.ledger.cases.instance_paths(site.only())
    first = site.only()
    changed = send_all(site.received, site.clock, head(content=9))
    site.step(2)
    site.step(30)
    (kept,) = site.cases(S.QUEUED)
    assert kept.case_id == first.case_id
    assert site.ledger.cases.instance_paths(kept) == before
    assert len([p for p in site.ledger.intake.known_paths(changed.arrival_id) if p.endswith(".dcm")]) == 12
    assert "series.conflicting_copy" in site.events(first)


@pytest.mark.parametrize("crash", [None, "intake.take", "singles.take_conflicts", "intake.finish"])
def test_an_arrival_of_other_contents_alone_is_a_case_that_somebody_is_told_of(site: Site, crash: str | None) -> None:
    send_all(site.received, site.clock, head())
    site.step(2)
    first = site.only()
    send_all(site.received, site.clock, head(content=9), email=("me@example.org",))
    if crash is not None:
        room, method = crash.split(".")
        crash_at(getattr(site.ledger, room), method, 1, after=method != "finish")
        with pytest.raises(Crash):
            site.step(2)
        site.restart()
    site.step(2)
    site.step(30)
    (told,) = site.cases(S.NOT_ANALYSED)
    assert (told.reason, told.email) == (Reason.CONFLICTING_COPY, ("me@example.org",))
    assert "12 images" in told.detail
    assert crash is not None or first.case_id in told.detail
    assert {w.destination for w in site.outbox() if w.case_id == told.case_id} == {"folder", "operators"}


def test_the_same_image_twice_in_one_association_with_other_contents(site: Site) -> None:
    send_all(site.received, site.clock, [*head(), image("7", 3, content=1)])
    site.step(2)
    assert site.only().state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12


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


def test_a_file_that_the_disk_has_damaged_is_not_taken_for_an_image(site: Site) -> None:
    sender = site.sender()
    stored = sender.send(head())
    stored[7].path.write_bytes(stored[7].path.read_bytes()[:-2] + b"xx")
    sender.release()
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


def test_a_disk_that_goes_on_failing_is_put_in_front_of_an_operator(site: Site) -> None:
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


def test_an_arrival_that_cannot_be_taken_in_does_not_stop_the_others(
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
    assert capsys.readouterr().out.count("cannot be taken in") == 1
    monkeypatch.undo()
    site.step(1)
    assert len(site.cases(S.QUEUED)) == 2


def test_everything_that_was_promised_is_not_held_up_by_an_open_association(site: Site) -> None:
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


def test_a_decision_that_fails_is_put_in_front_of_an_operator(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.admission.select", lambda *_: 1 / 0)
    send_all(site.received, site.clock, head())
    for _ in range(DECIDE_ATTEMPTS + 1):
        site.step(1.5)
    assert site.only().state is S.FAILED
    send_all(site.received, site.clock, head("8"))
    monkeypatch.undo()
    site.step(2)
    assert [c.series_uid for c in site.cases(S.QUEUED)] == ["1.2.8"]


def test_values_that_the_ledger_cannot_keep_do_not_stop_the_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    take = site.ledger.intake.take

    def refuse(arrival: object, files: list[object], **how: object) -> object:
        if any(f.header.instance_number == 5 for f in files):  # type: ignore[attr-defined]
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return take(arrival, files, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(site.ledger.intake, "take", refuse)
    send_all(site.received, site.clock, head())
    site.step(2)
    assert [c.reason for c in site.cases(S.NOT_ANALYSED)] == [Reason.UNREADABLE]
    (series,) = site.ledger.intake.receiving()
    assert series.new_instances == 11


# aligned heads ------------------------------------------------------------------------------------------------------------------


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


def test_the_same_aligned_head_again_makes_no_case(site: Site) -> None:
    for _ in range(2):
        sender = site.sender(source=ArrivalSource.FOLDER)
        sender.send_aligned(b"a nifti")
        sender.release()
        site.step(1)
    assert site.only().state is S.QUEUED


# starting anew ------------------------------------------------------------------------------------------------------------------


def test_left_overs_are_cleared_but_not_what_is_at_work(site: Site) -> None:
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
    site.step(0)
    assert [p.exists() for p in (old, new, empty, fresh)] == [False, True, False, True]
    assert site.only().state is S.RECEIVING


def test_a_folder_that_gets_its_record_later_is_taken_in(site: Site) -> None:
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
def test_images_without_a_readable_record_of_their_sender_still_count(site: Site, record: bytes | None) -> None:
    sender = send_all(site.received, site.clock, head())
    path = sender.writer.folder / "arrival.json"
    path.unlink() if record is None else path.write_bytes(record)
    site.step(2)
    assert site.only().state is S.QUEUED


def test_a_queued_case_without_its_images_goes_to_an_operator(site: Site) -> None:
    sender = send_all(site.received, site.clock, head())
    site.step(2)
    next(sender.writer.folder.glob("*.dcm")).unlink()
    site.restart()
    site.step(1)
    case = site.only()
    assert (case.state, case.failed_stage) == (S.FAILED, Stage.PREPARE)
    assert "no longer on the disk" in case.detail


def test_a_complete_series_without_its_images_goes_to_an_operator(site: Site) -> None:
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


def test_an_interrupted_supersession_is_made_good(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    images = head()
    send_all(site.received, site.clock, images[:3])
    site.step(2)
    send_all(site.received, site.clock, images[3:])
    monkeypatch.setattr("daemon.admission.Admission.supersede", lambda *_: None)
    site.step(0.2)
    site.step(21)
    assert {c.revision: c.state for c in site.cases()} == {1: S.NOT_ANALYSED, 2: S.QUEUED}
    monkeypatch.undo()
    site.restart()
    site.step(0)
    assert {c.revision: c.state for c in site.cases()} == {1: S.SUPERSEDED, 2: S.QUEUED}


def test_singles_that_were_opened_but_not_moved_are_moved_at_the_next_start(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.admission.Admission.admit_aligned", lambda *_: None)
    monkeypatch.setattr("daemon.admission.Admission.reject_single", lambda *_: None)
    site.sender().send_aligned(b"a nifti")
    site.sender().send([("1.9.1", b"no DICOM")])
    site.step(0.2)
    assert {c.state for c in site.cases()} == {S.RECEIVING}
    monkeypatch.undo()
    site.restart()
    site.step(0.2)
    assert {c.state for c in site.cases()} == {S.QUEUED, S.NOT_ANALYSED}


def test_singles_that_the_ledger_could_not_move_are_moved_without_a_new_start(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
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
    site.step(SINGLES_AFTER.total_seconds())
    site.step(SINGLES_AFTER.total_seconds())
    assert sorted((c.state, c.reason) for c in site.cases()) == [(S.NOT_ANALYSED, Reason.UNREADABLE), (S.QUEUED, None)]
    assert "DICOM" in site.cases(S.NOT_ANALYSED)[0].detail, "the reason that was found then"


# crashes ------------------------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The end of the process, at this very line."""


def crash_at(target: object, name: str, call: int, *, after: bool) -> Callable[[], None]:
    """Make the `call`-th call of a method the last: before or after it has had its effect. Returns what takes it back."""
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


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("room", "method", "call"),
    [
        ("intake", "register", 1),
        ("intake", "register", 3),
        ("intake", "take", 1),
        ("intake", "take", 2),
        ("intake", "take", 4),
        ("singles", "take_unreadable", 1),
        ("singles", "set_aside", 1),
        ("singles", "take_aligned", 1),
        ("intake", "finish", 1),
        ("intake", "finish", 2),
        ("cases", "advance", 1),
        ("cases", "advance", 2),
        ("cases", "supersede_earlier", 1),
        ("deliveries", "plan", 1),
        ("deliveries", "plan", 2),
    ],
)
def test_every_acknowledged_image_is_in_one_current_case_whatever_crashes(
    site: Site, room: str, method: str, call: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.taking.BATCH", 4)
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


def test_a_database_that_is_away_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    send_all(site.received, site.clock, head())
    monkeypatch.setattr(site.ledger.intake, "take", away)
    with pytest.raises(OperationalError):
        site.step(1)
    monkeypatch.undo()
    site.step(1)
    site.step(1)
    assert site.only().state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12
