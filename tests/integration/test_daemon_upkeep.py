"""Reconciler, rejected drops and retention on a real ledger and a real data folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import daemon.upkeep.retention
from config.series import SeriesRule, SeriesSettings
from config.settings import RetentionSettings, Settings
from corewatch.arrival import Arrival, ArrivalSource
from corewatch.errors import RetryLater
from corewatch.messages import Work
from corewatch.states import CaseState, DeliveryState, Stage
from corewatch.storage_commitment import InstanceReference
from corewatch.units import GIB
from daemon.intake.assembler import SINGLE_FILE_RETRY, Assembler
from daemon.upkeep.dispatcher import Dispatcher
from daemon.upkeep.overdue import Reconciler
from daemon.upkeep.retention import Retention
from daemon.watch.rejection import RejectedDrop, RejectionRecorder
from ledger.cases import Case
from ledger.database import QUEUE_LEASE_S
from ledger.store import Ledger
from tests.support.listener import captured_logs
from tests.support.spool import Sender, TestClock, head, send_all

S, D = CaseState, DeliveryState
DAY = 86400.0


@dataclass
class Site:
    settings: Settings
    clock: TestClock
    ledger: Ledger
    published: list[Work]
    broker_up: bool = True

    def publish(self, work: Work) -> None:
        if not self.broker_up:
            raise RetryLater("down")
        self.published.append(work)

    def queued(self, content: str = "a") -> Case:
        """A case whose work was published once."""
        arrival = Arrival(f"arrival-{content}", ArrivalSource.FOLDER, self.clock())
        self.ledger.intake.register(arrival)
        case_id = self.ledger.single_file_cases.open_aligned(
            arrival, f"arrival-{content}/aligned.nii.gz", content * 64, self.clock()
        )
        assert case_id is not None
        self.ledger.cases.advance(case_id, S.RECEIVING, S.QUEUED, work=[Work(Stage.PREPARE, case_id)])
        Dispatcher(self.ledger.outbox, self.publish).step(self.clock())
        return self.case(case_id)

    def delivering(self, *destinations: str) -> Case:
        case = self.queued()
        self.ledger.cases.advance(case.case_id, S.QUEUED, S.PREPARED)
        self.ledger.cases.advance(case.case_id, S.PREPARED, S.DETECTED)
        self.ledger.deliveries.plan(case.case_id, S.DETECTED, S.DELIVERING, dict.fromkeys(destinations))
        return self.case(case.case_id)

    def case(self, case_id: str) -> Case:
        case = self.ledger.cases.get(case_id)
        assert case is not None
        return case


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = Settings(
        data_dir=tmp_path / "data",
        series=SeriesSettings(idle_s=20, grace_s=1, rules=(SeriesRule(name="cta-head", min_slices=8, min_coverage_mm=24),)),
        retention=RetentionSettings(delivered_days=7, failed_days=30, free_gib=20),
    )
    clock = TestClock()
    ledger = Ledger(settings.database_url, clock)
    yield Site(settings, clock, ledger, [])
    ledger.close()


# the reconciler ------------------------------------------------------------------------------------------------------------


def test_work_that_a_wiped_broker_lost_is_posted_again(site: Site) -> None:
    case = site.queued()
    reconciler, dispatcher = Reconciler(site.ledger), Dispatcher(site.ledger.outbox, site.publish)
    site.published.clear()
    assert reconciler.step(site.clock.tick(QUEUE_LEASE_S - 1)) == 0
    assert reconciler.step(site.clock.tick(2)) == 1
    dispatcher.step(site.clock())
    assert site.published == [Work(Stage.PREPARE, case.case_id)]
    assert reconciler.step(site.clock.tick(1)) == 0


def test_a_case_of_a_worker_that_ended_is_reposted_after_its_lease(site: Site) -> None:
    case = site.queued()
    assert site.ledger.cases.begin(case.case_id, S.QUEUED, holder="host/1/1", lease_s=300) is not None
    reconciler = Reconciler(site.ledger)
    assert reconciler.step(site.clock.tick(299)) == 0
    assert reconciler.step(site.clock.tick(2)) == 1
    again = site.ledger.cases.begin(case.case_id, S.QUEUED, holder="host/2/2", lease_s=300)
    assert again is not None
    assert again.attempts == 2, "the attempt of the vanished worker counts"


def test_work_that_still_waits_for_the_broker_is_not_reposted(site: Site) -> None:
    site.broker_up = False
    case = site.queued()
    reconciler, dispatcher = Reconciler(site.ledger), Dispatcher(site.ledger.outbox, site.publish)
    for _ in range(200):
        reconciler.step(site.clock.tick(60))
        dispatcher.step(site.clock())
    site.broker_up = True
    dispatcher.step(site.clock.tick(60))
    assert site.published == [Work(Stage.PREPARE, case.case_id)]


def test_an_unclaimed_case_is_logged_once(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.queued()
    reconciler, dispatcher = Reconciler(site.ledger), Dispatcher(site.ledger.outbox, site.publish)
    for _ in range(100):
        reconciler.step(site.clock.tick(60))
        dispatcher.step(site.clock())
    assert 2 < len(site.published) < 10, "100 minutes: the pause doubles each time"
    assert capsys.readouterr().out.count("case_unclaimed") == 1


def test_a_lost_delivery_is_posted_again(site: Site) -> None:
    case = site.delivering("folder", "pacs")
    site.ledger.deliveries.begin(case.case_id, "folder", lease_s=60)
    site.ledger.deliveries.end(case.case_id, "folder", D.SENT, detail="")
    reconciler, dispatcher = Reconciler(site.ledger), Dispatcher(site.ledger.outbox, site.publish)
    dispatcher.step(site.clock())
    site.published.clear()
    assert reconciler.step(site.clock.tick(QUEUE_LEASE_S + 1)) == 1
    dispatcher.step(site.clock())
    assert site.published == [Work(Stage.DELIVER, case.case_id, "pacs")]


def test_a_case_without_any_destination_is_delivered(site: Site) -> None:
    case = site.delivering()
    Reconciler(site.ledger).step(site.clock.tick(1))
    assert site.case(case.case_id).state is S.DELIVERED


def test_a_case_with_an_open_delivery_is_left_alone(site: Site) -> None:
    case = site.delivering("folder")
    Reconciler(site.ledger).step(site.clock.tick(1))
    assert site.case(case.case_id).state is S.DELIVERING


def test_ended_cases_are_left_alone(site: Site) -> None:
    case = site.queued()
    site.ledger.cases.advance(case.case_id, S.QUEUED, S.FAILED, detail="x", failed_stage=Stage.PREPARE)
    assert Reconciler(site.ledger).step(site.clock.tick(10 * DAY)) == 0


# refused drops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "method"), [("intake", "register"), ("single_file_cases", "open_unreadable"), ("intake", "finish")]
)
def test_a_rejected_drop_is_one_case_however_often_it_is_recorded(
    site: Site, monkeypatch: pytest.MonkeyPatch, room: str, method: str
) -> None:
    refused = RejectionRecorder(site.ledger, site.settings)
    folder = site.settings.watch.folders[0].path
    drop = RejectedDrop(folder, "0123456789", "a" * 20, "It holds no DICOM images.", site.clock())
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(getattr(site.ledger, room), method, lambda *_: 1 / 0)
        refused.record(drop)
    refused.record(replace(drop, rejected_at=site.clock.tick(5)))
    RejectionRecorder(site.ledger, site.settings).record(drop)
    (case,) = site.ledger.cases.find()
    assert (case.state, case.detail) == (S.NOT_ANALYSED, "It holds no DICOM images.")
    assert [d.destination for d in site.ledger.deliveries.of(case.case_id)] == ["folder"]
    refused.record(replace(drop, occurrence="b" * 20))
    assert len(site.ledger.cases.find()) == 2, "dropped once more"


def test_the_case_of_a_rejected_drop_is_ended_later_if_that_failed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    refused, assembler = RejectionRecorder(site.ledger, site.settings), Assembler(site.ledger, site.settings)
    assembler.step(site.clock())
    drop = RejectedDrop(site.settings.watch.folders[0].path, "0123456789", "a" * 20, "It holds nothing.", site.clock())
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(site.ledger.deliveries, "plan", lambda *_, **__: 1 / 0)
        refused.record(drop)
    refused.record(drop)
    assembler.step(site.clock.tick(SINGLE_FILE_RETRY.total_seconds()))
    (case,) = site.ledger.cases.find()
    assert (case.state, case.detail) == (S.NOT_ANALYSED, "It holds nothing.")


# retention -----------------------------------------------------------------------------------------------------------------


def analysed(site: Site, series: str, end: CaseState) -> tuple[Case, Path, Path]:
    """A case with its own association that has ended, and its two folders."""
    sender = send_all(site.settings.received_dir, site.clock, head(series))
    assembler = Assembler(site.ledger, site.settings)
    assembler.step(site.clock.tick(2))
    (case,) = [c for c in site.ledger.cases.find(series_uid=f"1.2.{series}") if c.state is S.QUEUED]
    folder = site.settings.cases_dir / case.case_id
    (folder / "dicom").mkdir(parents=True)
    (folder / "dicom" / "page.dcm").write_bytes(b"x")
    for before, after in ((S.QUEUED, S.PREPARED), (S.PREPARED, S.DETECTED), (S.DETECTED, S.DELIVERING)):
        site.ledger.cases.advance(case.case_id, before, after)
    if end is not S.DELIVERING:
        site.ledger.cases.advance(case.case_id, S.DELIVERING, end)
    return case, folder, sender.writer.folder


def retention(site: Site, *free_gib: float) -> Retention:
    """Finds this much free space, one figure after another; the last one stays."""
    left = list(free_gib)
    return Retention(site.ledger, site.settings, lambda _: int((left.pop(0) if len(left) > 1 else left[0]) * GIB))


def test_files_are_removed_after_their_days_and_rows_stay(site: Site) -> None:
    case, folder, spool = analysed(site, "7", S.DELIVERED)
    _, failed_folder, failed_spool = analysed(site, "8", S.FAILED)
    keeper = retention(site, 100)
    keeper.step(site.clock.tick(6.9 * DAY))
    assert folder.exists()
    assert spool.exists()
    keeper.step(site.clock.tick(0.2 * DAY))
    assert not folder.exists()
    assert not spool.exists()
    assert failed_folder.exists()
    assert failed_spool.exists()
    after = site.case(case.case_id)
    assert (after.state, after.files_removed) == (S.DELIVERED, True)
    keeper.step(site.clock.tick(24 * DAY))
    assert not failed_folder.exists()
    assert not failed_spool.exists()


def test_answered_commitment_requests_are_deleted_later(site: Site) -> None:
    owed = site.ledger.commitment_requests_received
    owed.add("2.25.7", "CT", "10.0.0.7", (InstanceReference("1.2.840.10008.5.1.4.1.1.2", "1.2.7.1"),), site.clock())
    [asked] = owed.due(site.clock())
    owed.end(asked, "answered", "1 object committed")
    keeper = retention(site, 100)
    keeper.step(site.clock.tick(29 * DAY))
    keeper.step(site.clock.tick(2 * DAY))
    assert owed.purge(site.clock()) == 0, "nothing is left"


def test_on_a_full_disk_the_oldest_cases_are_removed_until_there_is_room(site: Site) -> None:
    ended = []
    for series in ("7", "8", "9"):
        ended.append(analysed(site, series, S.DELIVERED))
        site.clock.tick(3600)
    _, unfinished_folder, unfinished_spool = analysed(site, "10", S.DELIVERING)
    _, failed_folder, _ = analysed(site, "11", S.FAILED)
    retention(site, 5, 5, 25).step(site.clock.tick(60))
    assert [folder.exists() for _, folder, _ in ended] == [False, False, True]
    retention(site, 5).step(site.clock.tick(60))
    assert [folder.exists() for _, folder, _ in ended] == [False, False, False]
    assert unfinished_folder.exists()
    assert unfinished_spool.exists()
    assert failed_folder.exists()


def test_instances_of_an_unfinished_case_stay(site: Site) -> None:
    first, folder, spool = analysed(site, "7", S.DELIVERED)
    site.clock.tick(8 * DAY)
    late = Sender(site.settings.received_dir, site.clock)
    late.send(head("7", 14)[12:])
    Assembler(site.ledger, site.settings).step(site.clock.tick(1))
    retention(site, 5).step(site.clock())
    assert site.case(first.case_id).files_removed
    assert not folder.exists()
    assert spool.exists(), "revision 2 is made of these images too"


def test_a_removal_that_a_crash_interrupted_is_completed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    case, folder, spool = analysed(site, "7", S.DELIVERED)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            retention(site, 100).step(site.clock.tick(8 * DAY))
    assert not site.case(case.case_id).files_removed
    retention(site, 100).step(site.clock())
    assert not folder.exists()
    assert not spool.exists()
    assert site.case(case.case_id).files_removed


def test_a_disk_that_stays_full_is_logged_once_and_again_only_after_there_was_room(site: Site) -> None:
    clearing = retention(site, 1, 1, 1, 1, 1, 1, 30, 1, 1)
    with captured_logs(daemon.upkeep.retention) as logs:
        for _ in range(9):
            clearing.step(site.clock.tick(3600))
    events = [entry["event"] for entry in logs]
    assert events == ["disk_full_nothing_removable", "disk_has_room_again", "disk_full_nothing_removable"]
