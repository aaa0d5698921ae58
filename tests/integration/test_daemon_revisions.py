"""Instances that are received late, again or with other content: a revision, a repetition, a quarantined copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import RetentionSettings
from corewatch.arrival import ArrivalSource
from corewatch.identity import case_key
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.states import CaseState, Stage
from daemon.upkeep.retention import Retention
from ledger.cases import Case
from tests.support.site import Crash, Site, crash_at, open_site
from tests.support.spool import head, image, send_all

S = CaseState


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


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
    site.ledger.deliveries.plan(second.case_id, S.DETECTED, S.DELIVERING, {"folder": None})
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


def test_a_late_stray_instance_does_not_withdraw_the_result(site: Site) -> None:
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


def test_a_series_with_a_result_that_is_sent_again_is_logged_with_its_case(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    case = without_files(site, S.DELIVERED)
    again = send_all(site.received, site.clock, head())
    site.step(0.2)
    site.step(30)
    assert site.only().state is S.DELIVERED
    assert site.events(case)[-1] == "arrival.repeated"
    assert case.case_id in next(line for line in capsys.readouterr().out.splitlines() if "arrival_repeated" in line)
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


def test_a_case_that_an_operator_retried_keeps_its_instances(site: Site) -> None:
    first = without_files(site, S.FAILED, failed_stage=Stage.PREPARE, detail="x")
    send_all(site.received, site.clock, head())
    site.step(0.2)
    assert site.ledger.cases.retry(first.case_id) is Stage.PREPARE
    site.step(30)
    second = next(c for c in site.cases() if c.revision == 2)
    assert (second.state, second.superseded_by) == (S.SUPERSEDED, first.case_id)
    assert site.ledger.cases.get(first.case_id).state is S.QUEUED  # type: ignore[union-attr]


def test_the_same_aligned_head_again_makes_no_case(site: Site) -> None:
    for _ in range(2):
        sender = site.sender(source=ArrivalSource.FOLDER)
        sender.send_aligned(b"a nifti")
        sender.release()
        site.step(1)
    assert site.only().state is S.QUEUED


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


def test_other_content_under_a_known_uid_is_quarantined(site: Site) -> None:
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


@pytest.mark.parametrize("crash", [None, "intake.ingest", "single_file_cases.open_conflicting", "intake.finish"])
def test_an_arrival_of_conflicting_instances_alone_is_a_reported_case(site: Site, crash: str | None) -> None:
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
    (conflict,) = site.cases(S.NOT_ANALYSED)
    assert (conflict.reason, conflict.email) == (Reason.CONFLICTING_COPY, ("me@example.org",))
    assert "12 images" in conflict.detail
    assert crash is not None or first.case_id in conflict.detail
    assert {w.destination for w in site.outbox() if w.case_id == conflict.case_id} == {"folder", "operators"}


def test_the_same_uid_twice_in_one_association_with_other_content(site: Site) -> None:
    send_all(site.received, site.clock, [*head(), image("7", 3, content=1)])
    site.step(2)
    assert site.only().state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12


def test_headers_leave_the_ledger_with_the_last_file_and_return_with_the_series(site: Site) -> None:
    send_all(site.received, site.clock, head(StudyDescription="CTA of Secret^Name"))
    site.step(0.2)
    site.step(1.2)
    case = site.only()

    def headers() -> str:
        return repr([instance for instance, _ in site.ledger.cases.instance_files(case)])

    site.ledger.cases.advance(case.case_id, S.QUEUED, S.FAILED, failed_stage=Stage.PREPARE, detail="x")
    settings = site.settings.model_copy(update={"retention": RetentionSettings(failed_days=1, delivered_days=1, free_gib=0)})
    retention = Retention(site.ledger, settings)
    retention.step(site.clock.tick(3600))
    assert "Secret" in headers()
    retention.step(site.clock.tick(3 * 86400))
    assert list(site.received.iterdir()) == []
    assert "Secret" not in headers()
    assert "CTA HEAD" not in headers()
    assert [i.sop_instance_uid for i, _ in site.ledger.cases.instance_files(case)] != []
    send_all(site.received, site.clock, head(StudyDescription="CTA of Secret^Name"))
    site.step(0.2)
    site.step(30)
    retention.step(site.clock.tick(1))
    newest = max(site.cases(), key=lambda c: c.revision)
    assert (newest.revision, newest.state) == (2, S.QUEUED), "selected by its headers again"
