"""Storage commitment that others ask us for: a real listener, spool and ledger, a modality stand-in, and a real Orthanc."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

import daemon.upkeep.storage_commitment
from config.intake import ListenerSettings, Peer
from config.settings import Settings
from corewatch.errors import RetryLater
from corewatch.storage_commitment import CommitmentReport, InstanceReference
from daemon.intake.assembler import Assembler
from daemon.upkeep.storage_commitment import GIVE_UP_AFTER, StorageCommitment, send_over_network
from dicom_listener.server import StorageListener
from foundation.addresses import Resolver, resolve_host
from foundation.dicom_client.commitment_messages import encode_request
from ledger.store import Ledger
from tests.support.commitment import answer_to, ask, modality, report_to
from tests.support.ledger import Clock
from tests.support.listener import associate, captured_logs, ct_slice, file_bytes, running, send
from tests.support.net import free_port, wait_for
from tests.support.orthanc import Orthanc

UIDS = [str(ct_slice(n).SOPInstanceUID) for n in range(1, 4)]


@dataclass
class House:
    """Listener, assembler and commitment, over one data folder; the test calls the steps of the daemon's components."""

    settings: Settings
    listener: StorageListener
    ledger: Ledger
    clock: Clock
    sent: list[tuple[Peer, CommitmentReport]] = field(default_factory=list)

    def step(self, send_report: Callable[[Peer, CommitmentReport], object] | None = None, resolve: Resolver = resolve_host) -> None:
        Assembler(self.ledger, self.settings).step(self.clock.now)
        StorageCommitment(self.ledger, self.settings, send_report or send_over_network(self.settings), resolve).step(self.clock.now)

    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.settings.database_url, self.clock)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []
    stops = []

    def make(*peers: Peer) -> House:
        settings = Settings(
            data_dir=tmp_path / "data", listener=ListenerSettings(host="127.0.0.1", port=0, reserve_gib=0, peers=peers)
        )
        clock = Clock()
        context = running(settings, clock=clock)
        made.append(House(settings, context.__enter__(), Ledger(settings.database_url, clock), clock))
        stops.append(context)
        return made[-1]

    yield make
    for one, context in zip(made, stops, strict=True):
        context.__exit__(None, None, None)
        one.ledger.close()


def request(*uids: str, transaction: str = "2.25.42", sop_class: str = CTImageStorage) -> Dataset:
    return encode_request(transaction, [InstanceReference(sop_class, uid) for uid in uids])


def store(house: House, *numbers: int) -> None:
    association = associate(house.listener.port)
    assert send(association, *numbers) == [0x0000] * len(numbers)
    association.release()


def test_what_is_kept_is_committed_and_what_is_not_is_named(house: Callable[..., House]) -> None:
    with modality() as (port, reports):
        here = house(Peer(ae_title="MODALITY", host="127.0.0.1", port=port))
        store(here, 1, 2)
        assert ask(here.listener.port, request(*UIDS), calling="MODALITY") == 0x0000
        here.restart()
        here.step()
        assert reports == [], "an image may be stored and not have its row yet"
        here.clock.forward(31)
        here.step()
        [report] = reports
    assert report.TransactionUID == "2.25.42"
    assert [i.ReferencedSOPInstanceUID for i in report.ReferencedSOPSequence] == UIDS[:2]
    assert [(i.ReferencedSOPInstanceUID, i.FailureReason) for i in report.FailedSOPSequence] == [(UIDS[2], 0x0112)]
    here.clock.forward(3600)
    here.step()
    assert len(reports) == 1
    assert here.ledger.commitment_requests_received.due(here.clock.now) == []


def test_images_that_were_just_stored_are_committed_at_once(house: Callable[..., House]) -> None:
    with modality() as (port, reports):
        here = house(Peer(ae_title="MODALITY", host="127.0.0.1", port=port))
        store(here, 1)
        ask(here.listener.port, request(UIDS[0]), calling="MODALITY")
        here.step()
        [report] = reports
    assert "FailedSOPSequence" not in report


def test_an_image_whose_file_is_gone_or_whose_class_differs_is_not_committed(house: Callable[..., House]) -> None:
    with modality() as (port, reports):
        here = house(Peer(ae_title="MODALITY", host="127.0.0.1", port=port))
        store(here, 1, 2)
        here.step()
        stored = here.ledger.commitment_requests_received.stored_instances([UIDS[0]])
        [gone] = [here.settings.received_dir / one.path for one in stored.values()]
        gone.unlink()
        ask(here.listener.port, request(UIDS[0]), calling="MODALITY")
        ask(here.listener.port, request(UIDS[1], transaction="2.25.43", sop_class=MRImageStorage), calling="MODALITY")
        here.clock.forward(31)
        here.step()
    reasons = {str(r.TransactionUID): [int(i.FailureReason) for i in r.FailedSOPSequence] for r in reports}
    assert reasons == {"2.25.42": [0x0112], "2.25.43": [0x0119]}


def test_an_answer_is_repeated_until_it_is_taken(house: Callable[..., House]) -> None:
    answers = [0x0110, 0x0110, 0x0000]
    with modality(lambda: answers.pop(0)) as (port, reports):
        here = house(Peer(ae_title="MODALITY", host="127.0.0.1", port=port))
        store(here, 1)
        ask(here.listener.port, request(UIDS[0]), calling="MODALITY")
        here.step()
        here.clock.forward(9)
        here.step()
        assert len(answers) == 2, "not before its time"
        for wait in (2, 12):
            here.restart()
            here.clock.forward(wait)
            here.step()
    assert len(reports) == 1


@pytest.mark.parametrize("peers", [(), (Peer(ae_title="MODALITY", host="127.0.0.1"),)])
def test_who_cannot_be_called_is_given_up_at_once_and_the_log_says_so(house: Callable[..., House], peers: tuple[Peer, ...]) -> None:
    here = house(*peers)
    assert ask(here.listener.port, request(UIDS[0]), calling="MODALITY") == 0x0000
    with captured_logs(daemon.upkeep.storage_commitment) as logs:
        here.step()
        here.clock.forward(3600)
        here.step()
    [told] = [entry for entry in logs if entry["log_level"] == "error"]
    assert told["peer"] == "MODALITY"
    assert "listener.peers" in told["remedy"]
    assert here.ledger.commitment_requests_received.due(here.clock.now + 2 * GIVE_UP_AFTER) == []


def test_a_peer_that_cannot_be_reached_is_given_up_in_the_end(house: Callable[..., House]) -> None:
    def send_report(peer: Peer, report: CommitmentReport) -> None:
        raise RetryLater("it is down")

    here = house(Peer(ae_title="MODALITY", host="127.0.0.1", port=104))
    store(here, 1)
    ask(here.listener.port, request(UIDS[0]), calling="MODALITY")
    tries = 0
    for _ in range(200):
        here.step(send_report)
        if not here.ledger.commitment_requests_received.due(here.clock.now + 2 * GIVE_UP_AFTER):
            break
        here.clock.forward(1800)
        tries += 1
    assert 90 <= tries <= 100


def test_a_peer_that_is_down_holds_up_nobody(house: Callable[..., House]) -> None:
    tried: list[str] = []

    def send_report(peer: Peer, report: CommitmentReport) -> None:
        tried.append(peer.ae_title)
        if peer.ae_title == "DOWN":
            raise RetryLater("it is down")

    here = house(*(Peer(ae_title=name, host="127.0.0.1", port=104) for name in ("DOWN", "UP")))
    store(here, 1)
    for n in range(5):
        ask(here.listener.port, request(UIDS[0], transaction=f"2.25.{n + 1}"), calling="DOWN")
    ask(here.listener.port, request(UIDS[0], transaction="2.25.9"), calling="UP")
    here.step(send_report)
    assert sorted(tried) == ["DOWN", "UP"]


TWINS = (Peer(ae_title="CT", host="ct-one.site", port=104), Peer(ae_title="CT", host="127.0.0.0/8", port=105))


@pytest.mark.parametrize(
    ("ct_one", "wanted"),
    [
        ({"10.0.0.1"}, [("127.0.0.1", 105)]),
        ({"127.0.0.1"}, [("ct-one.site", 104)]),
    ],
)
def test_of_two_peers_with_one_title_the_one_that_asked_is_answered(
    house: Callable[..., House], ct_one: set[str], wanted: list[tuple[str, int]]
) -> None:
    sent: list[tuple[str, int | None]] = []
    here = house(*TWINS)
    store(here, 1)
    ask(here.listener.port, request(UIDS[0]), calling="CT")
    here.step(lambda peer, _report: sent.append((peer.host, peer.port)), lambda _name: frozenset(ct_one))
    assert sent == wanted


def test_while_it_cannot_be_told_who_asked_nobody_is_answered(house: Callable[..., House]) -> None:
    sent: list[str] = []
    here = house(
        *(peer.model_copy(update={"host": name}) for peer, name in zip(TWINS, ("ct-one.site", "ct-two.site"), strict=True))
    )
    store(here, 1)
    ask(here.listener.port, request(UIDS[0]), calling="CT")
    with captured_logs(daemon.upkeep.storage_commitment) as logs:
        here.step(lambda peer, _report: sent.append(peer.host), lambda _name: frozenset())
    assert sent == []
    assert "several entries" in next(line["why"] for line in logs if line["log_level"] == "warning")
    here.clock.forward(11)
    here.step(lambda peer, _report: sent.append(peer.host), lambda name: frozenset({"127.0.0.1"} if "two" in name else ()))
    assert sent == ["ct-two.site"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"action_type": 2}, 0x0123),
        ({"instance": "1.2.3"}, 0x0112),
        ({"transaction": ""}, 0x0115),
        ({"uids": ()}, 0x0115),
        ({"uids": ("../../etc",)}, 0x0115),
    ],
)
def test_what_is_no_request_is_refused_and_leaves_nothing(house: Callable[..., House], change: dict[str, Any], status: int) -> None:
    here = house()
    what = {"uids": UIDS[:1], "transaction": "2.25.42", **change}
    asked = request(*what.pop("uids"), transaction=what.pop("transaction"))
    assert ask(here.listener.port, asked, calling="MODALITY", **what) == status
    assert not here.settings.commitment_dir.exists()


def test_a_full_disk_is_told(house: Callable[..., House]) -> None:
    here = house()
    here.settings.commitment_dir.write_text("a file where the folder should be")
    assert ask(here.listener.port, request(UIDS[0]), calling="MODALITY") == 0x0213


def test_an_answer_of_an_unknown_type_or_without_objects_is_refused(house: Callable[..., House]) -> None:
    here = house()
    event, _ = answer_to(request(UIDS[0]), {})
    assert report_to(here.listener.port, event, 3) == 0x0113
    del event.ReferencedSOPSequence
    assert report_to(here.listener.port, event, 1) == 0x0115


def test_a_damaged_record_stops_nothing(house: Callable[..., House]) -> None:
    with modality() as (port, reports):
        here = house(Peer(ae_title="MODALITY", host="127.0.0.1", port=port))
        store(here, 1)
        ask(here.listener.port, request(UIDS[0]), calling="MODALITY")
        (here.settings.commitment_dir / "0.json").write_text('{"kind": "request"')
        here.step()
        here.step()
    assert len(reports) == 1
    assert [p.name for p in here.settings.commitment_dir.iterdir()] == ["0.damaged"]


def test_orthanc_asks_and_is_answered(house: Callable[..., House], tool: Callable[[str], str], tmp_path: Path) -> None:
    port = free_port()
    here = house(Peer(ae_title="ORTHANC", host="127.0.0.1", port=port))
    modalities = {"corewatch": ["COREWATCH", "127.0.0.1", here.listener.port]}
    orthanc = Orthanc(tool("Orthanc"), tmp_path / "orthanc", DicomPort=port, DicomModalities=modalities)
    try:
        for n in (1, 2, 3):
            file = tmp_path / f"{n}.dcm"
            file.write_bytes(file_bytes(ct_slice(n)))
            orthanc.upload(file)
        stored = [i["ID"] for i in orthanc.find("Instance") if i["MainDicomTags"]["SOPInstanceUID"] != UIDS[2]]
        sent = orthanc.ask("POST", "/modalities/corewatch/store", {"Resources": stored, "Synchronous": True})
        assert sent["FailedInstancesCount"] == 0
        all_three = [{"SOPClassUID": str(CTImageStorage), "SOPInstanceUID": uid} for uid in UIDS]
        asked = orthanc.ask("POST", "/modalities/corewatch/storage-commitment", {"DicomInstances": all_three})
        here.step()
        here.clock.forward(31)
        here.step()
        path = f"/storage-commitment/{asked['ID']}"
        wait_for("Orthanc to have the answer", lambda: orthanc.get(path)["Status"] != "Pending", 20)
        report = orthanc.get(path)
    finally:
        orthanc.stop()
    assert report["Status"] == "Failure"
    assert sorted(i["SOPInstanceUID"] for i in report["Success"]) == UIDS[:2]
    assert [(f["SOPInstanceUID"], f["FailureReason"]) for f in report["Failures"]] == [(UIDS[2], 0x0112)]
