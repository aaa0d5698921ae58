"""Storage commitment that we ask for: a real ledger and worker, PACS stand-ins of every habit, and a real Orthanc."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from config.delivery import DeliverSettings, PacsSettings
from config.intake import ListenerSettings
from config.settings import Settings
from conversion.nifti import write_aligned, write_core_map
from corewatch.casefolder import CaseFolder
from corewatch.geometry import NETWORK_SHAPE
from corewatch.states import CaseState, DeliveryState
from corewatch.storage_commitment import InstanceReference
from corewatch.volumes import AlignedHead
from daemon.upkeep.storage_commitment import StorageCommitment, send_over_network
from foundation.dicom_client.commitment_messages import encode_request
from ledger.deliveries import Delivery
from ledger.store import Ledger
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.object_manifest import MANIFEST, ObjectManifest
from outputs.dicom.secondary_capture import Page
from tests.support.commitment import answer_to, committing_pacs, report_to
from tests.support.ledger import Clock, delivering
from tests.support.listener import running
from tests.support.net import free_port, wait_for
from tests.support.orthanc import Orthanc
from tests.support.results import make_case, write_pages
from tests.support.site import Crash, crash_at
from worker.context import WorkerContext, destinations_of
from worker.delivery.sending import run_delivery
from worker.models.detectors import Detectors
from worker.stages.case_files import FindingRecord, PreparedRecord

OBJECTS = 3


@dataclass
class Plant:
    """A case with a finding that is to go to one PACS, and the programs that bring it there, one step at a time."""

    settings: Settings
    ledger: Ledger
    clock: Clock
    case_id: str

    def restart(self) -> None:
        """All programs are stopped and started."""
        self.ledger.close()
        self.ledger = Ledger(self.settings.database_url, self.clock)

    def step(self) -> None:
        """The daemon looks, then a worker takes what was posted."""
        StorageCommitment(self.ledger, self.settings, send_over_network(self.settings)).step(self.clock.now)
        context = WorkerContext(self.settings, self.ledger, Detectors(self.settings), destinations_of(self.settings))
        for posted in self.ledger.outbox.due(self.clock.now):
            if posted.work.destination is not None:  # earlier stages' messages find the case moved on
                run_delivery(context, posted.work.case_id, posted.work.destination, redelivered=False)
            self.ledger.outbox.mark_published(posted)

    @property
    def delivery(self) -> Delivery:
        return next(d for d in self.ledger.deliveries.of(self.case_id) if d.destination == "pacs")

    @property
    def case_state(self) -> CaseState:
        case = self.ledger.cases.get(self.case_id)
        assert case is not None
        return case.state


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Callable[..., Plant]]:
    made: list[Plant] = []

    def make(port: int, *, listen: int = 0, ae_title: str = "PACS", wait_s: float = 5.0) -> Plant:
        pacs = PacsSettings(
            name="pacs", ae_title=ae_title, host="127.0.0.1", port=port, commitment=True, commitment_wait_s=wait_s, timeout_s=5.0
        )
        settings = Settings(
            data_dir=tmp_path / "data",
            deliver=DeliverSettings(pacs=(pacs,), folder=None),
            listener=ListenerSettings(host="127.0.0.1", port=listen, reserve_gib=0),
        )
        clock = Clock()
        ledger = Ledger(settings.database_url, clock)
        case_id = delivering(ledger, pacs=None)
        _fill(CaseFolder(settings.cases_dir / case_id))
        made.append(Plant(settings, ledger, clock, case_id))
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


def _fill(folder: CaseFolder) -> None:
    """The case's folder as its stages leave it."""
    case = make_case(folder.path)
    write_pages(case, [Page(np.zeros((16, 16, 3), np.uint8), f"overlay-{n}") for n in range(OBJECTS)])
    PreparedRecord("1.2.826.0.1.2", case.source_instances, None, None, None, 0.5, 1.5).write(folder)
    assert case.result.finding is not None
    FindingRecord(case.result.finding, case.analysed_at, 1.0).write(folder)
    folder.result.write_text("{}")
    write_aligned(folder.aligned, AlignedHead(np.zeros(NETWORK_SHAPE, np.uint8), None, None))
    write_core_map(folder.core_map, np.zeros(NETWORK_SHAPE, np.uint8))
    folder.summary.write_bytes(b"page")
    names = tuple(path.name for path in sorted(folder.dicom.glob("*.dcm")))
    if not (folder.dicom / MANIFEST).exists():
        (folder.dicom / MANIFEST).write_text(json.dumps(ObjectManifest({ObjectKind.SC: names}).to_json()))


@pytest.mark.parametrize("how", ["same association", "before the response"])
def test_committed_at_once(plant: Callable[..., Plant], how: str) -> None:
    with committing_pacs(how=how) as pacs:
        here = plant(pacs.port)
        here.step()
        assert pacs.statuses == [0x0000]
        [(_, asked)] = pacs.requests
        assert sorted(asked) == sorted(pacs.stored)
        assert len(asked) == OBJECTS
        here.step()
    assert (here.delivery.state, here.delivery.detail) == (DeliveryState.SENT, "3 objects stored and committed")
    assert here.case_state is CaseState.DELIVERED
    assert len(pacs.stored) == OBJECTS


def test_the_answer_comes_later_on_an_association_of_the_pacs(plant: Callable[..., Plant]) -> None:
    """All our programs are stopped and started in between."""
    with committing_pacs(how="never") as pacs:
        here = plant(pacs.port, wait_s=0.1)
        here.step()
        assert here.delivery.state is DeliveryState.AWAITING
        assert here.case_state is CaseState.DELIVERING
        here.restart()
        here.clock.forward(3600)
        here.step()
        assert here.delivery.state is DeliveryState.AWAITING
        [(transaction, asked)] = pacs.requests
    with running(here.settings) as listener:
        assert report_to(listener.port, *answer_to(_request(transaction, asked), {})) == 0x0000
    here.restart()  # the report waits on the disk for the daemon
    here.step()
    assert here.delivery.state is DeliveryState.SENT
    assert here.case_state is CaseState.DELIVERED
    assert list(here.settings.commitment_dir.iterdir()) == []


def _request(transaction: str, uids: tuple[str, ...]) -> Dataset:
    return encode_request(transaction, [InstanceReference(SecondaryCaptureImageStorage, uid) for uid in uids])


def test_objects_that_are_not_there_are_sent_again_and_only_they(plant: Callable[..., Plant]) -> None:
    lost: list[str] = []

    def refuse(number: int, uid: str) -> int | None:
        if number == 1 and not lost:
            lost.append(uid)
        return 0x0112 if number == 1 and uid in lost else None

    with committing_pacs(refuse) as pacs:
        here = plant(pacs.port)
        for _ in range(3):
            here.step()
    assert here.delivery.state is DeliveryState.SENT
    assert pacs.stored[OBJECTS:] == lost
    assert [len(uids) for _, uids in pacs.requests] == [OBJECTS, 1]
    assert len({transaction for transaction, _ in pacs.requests}) == 2


@pytest.mark.parametrize(("reason", "asked", "words"), [(0x0112, 3, "after they were sent 3 times"), (0x0122, 1, "SOP class")])
def test_what_is_never_committed_goes_to_an_operator(plant: Callable[..., Plant], reason: int, asked: int, words: str) -> None:
    with committing_pacs(lambda number, uid: reason) as pacs:
        here = plant(pacs.port)
        for _ in range(5):
            here.step()
    assert here.delivery.state is DeliveryState.REFUSED
    assert words in here.delivery.detail
    assert here.case_state is CaseState.FAILED
    assert len(pacs.requests) == asked


def test_a_pacs_that_never_answers_goes_to_an_operator_in_time(plant: Callable[..., Plant]) -> None:
    with committing_pacs(how="never") as pacs:
        here = plant(pacs.port, wait_s=0.1)
        here.step()
        here.clock.forward(24 * 3600 - 1)
        here.step()
        assert here.delivery.state is DeliveryState.AWAITING
        here.clock.forward(1)
        here.step()
    assert here.delivery.state is DeliveryState.REFUSED
    assert "did not say in time" in here.delivery.detail
    assert len(pacs.stored) == OBJECTS


@pytest.mark.parametrize(
    ("options", "state", "words"),
    [
        ({"offers": False}, DeliveryState.REFUSED, "does not take Storage Commitment Push Model"),
        ({"action_status": 0x0124}, DeliveryState.REFUSED, "status 0x0124"),
        ({"action_status": 0x0213}, DeliveryState.PENDING, "status 0x0213"),
    ],
)
def test_requests_that_are_refused(
    plant: Callable[..., Plant], options: dict[str, object], state: DeliveryState, words: str
) -> None:
    with committing_pacs(**options) as pacs:  # type: ignore[arg-type]  # options of several types
        here = plant(pacs.port)
        here.step()
    assert here.delivery.state is state
    assert words in here.delivery.detail


@pytest.mark.parametrize("how", ["same association", "before the response"])
def test_the_association_is_not_released_before_the_report_is_answered(
    how: str, plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine: the report was read, and its answer is not out yet."""
    send = DIMSEServiceProvider.send_msg

    def late(provider: DIMSEServiceProvider, primitive: Any, context_id: int) -> None:
        if isinstance(primitive, N_EVENT_REPORT) and primitive.MessageIDBeingRespondedTo is not None:
            time.sleep(0.3)
        send(provider, primitive, context_id)

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", late)
    with committing_pacs(how=how) as pacs:
        here = plant(pacs.port)
        here.step()
        here.step()
    assert here.delivery.state is DeliveryState.SENT
    assert pacs.statuses == [0x0000], "the PACS has its answer"


CRASHES = [
    ("ledger", "open", False),
    ("ledger", "open", True),
    ("pacs", "store", True),
    ("pacs", "request_commitment", False),
    ("pacs", "request_commitment", True),
    ("ledger", "report", False),
    ("ledger", "report", True),
    ("ledger", "wait", False),
    ("ledger", "wait", True),
]


@pytest.mark.parametrize(("where", "name", "after"), CRASHES)
def test_a_worker_that_dies_at_any_step(plant: Callable[..., Plant], where: str, name: str, after: bool) -> None:
    """Its delivery is taken over; in the end everything is committed and the ledger says so, once."""
    with committing_pacs() as pacs:
        here = plant(pacs.port)
        destinations = destinations_of(here.settings)
        undo = crash_at(here.ledger.commitment_requests_sent if where == "ledger" else destinations["pacs"], name, 1, after=after)
        context = WorkerContext(here.settings, here.ledger, Detectors(here.settings), destinations)
        with pytest.raises(Crash):
            run_delivery(context, here.case_id, "pacs", redelivered=False)
        undo()
        for posted in here.ledger.outbox.due(here.clock.now):
            here.ledger.outbox.mark_published(posted)
        here.restart()
        context = WorkerContext(here.settings, here.ledger, Detectors(here.settings), destinations)
        run_delivery(context, here.case_id, "pacs", redelivered=True)
        for _ in range(3):
            here.step()
    assert here.delivery.state is DeliveryState.SENT
    assert here.case_state is CaseState.DELIVERED
    assert len(set(pacs.stored)) == OBJECTS
    ends = [line for line in here.ledger.cases.history(here.case_id) if line.event == "delivery.sent"]
    assert len(ends) == 1


def test_orthanc_commits_what_it_keeps(plant: Callable[..., Plant], tool: Callable[[str], str], tmp_path: Path) -> None:
    """Orthanc answers on an association of its own, to our listener."""
    listen = free_port()
    modalities = {"corewatch": ["COREWATCH", "127.0.0.1", listen]}
    orthanc = Orthanc(tool("Orthanc"), tmp_path / "orthanc", DicomModalities=modalities, DicomCheckCalledAet=False)
    try:
        here = plant(orthanc.dicom, listen=listen, ae_title="ORTHANC", wait_s=0.0)
        with running(here.settings):
            here.step()
            assert here.delivery.state is DeliveryState.AWAITING
            wait_for("Orthanc's report", lambda: any(here.settings.commitment_dir.glob("*.json")), 30)
            here.step()
            assert here.delivery.state is DeliveryState.SENT
            assert len(orthanc.find("Instance")) == OBJECTS
    finally:
        orthanc.stop()
        shutil.rmtree(tmp_path / "orthanc", ignore_errors=True)
