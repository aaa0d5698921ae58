"""A PACS that is slow or drops the association gets every object all the same, each once, and holds no process that alerts need."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from corewatch.states import CaseState, DeliveryState
from corewatch.stored_objects import StoredObject, still_to_send
from tests.support.ledger import Clock
from tests.support.office import Office, open_office
from tests.support.results import write_header
from tests.support.smtp import smtp_server
from worker.delivery.sending import run_delivery


@dataclass
class SlowPacs:
    """Answers after `delay_s`, and drops each association at its nth object; some objects it never takes."""

    port: int = 0
    delay_s: float = 0.0
    drops_at: int | None = None
    poison: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    stored: Counter[str] = field(default_factory=Counter)
    on_object: threading.Event = field(default_factory=threading.Event)


@contextmanager
def slow_pacs(**how: Any) -> Iterator[SlowPacs]:
    pacs, counts = SlowPacs(**how), dict[Any, int]()

    def on_store(event: Any) -> int:
        pacs.on_object.set()
        uid = str(event.request.AffectedSOPInstanceUID)
        pacs.asked.append(uid)
        counts[event.assoc] = counts.get(event.assoc, 0) + 1
        if counts[event.assoc] == pacs.drops_at or uid in pacs.poison:
            event.assoc.abort()
            return 0xA700
        time.sleep(pacs.delay_s)
        pacs.stored[uid] += 1
        return 0x0000

    ae = AE(ae_title="PACS")
    ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    assert server is not None
    pacs.port = server.socket.getsockname()[1]
    try:
        yield pacs
    finally:
        ae.shutdown()


def case_with(office: Office, objects: int, *names: str) -> str:
    """A case with this many DICOM objects."""
    case_id = office.found(3.0, *names)
    folder = office.context.folder(case_id)
    folder.dicom.mkdir()
    write_header(folder.source_header)
    for number in range(1, objects + 1):
        write_header(
            folder.dicom / f"sc-{number:03}.dcm", SOPInstanceUID=f"1.2.826.0.1.{int(case_id.encode().hex()[:6], 16)}.{number}"
        )
    return case_id


def main_pacs(port: int, **more: Any) -> dict[str, Any]:
    archive = {"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "objects": ["sc"], "timeout_s": 5.0}
    return {"pacs": [archive | more]}


def the_delivery(office: Office, case_id: str, name: str = "main") -> Any:
    return next(d for d in office.ledger.deliveries.of(case_id) if d.destination == name)


def test_a_pacs_that_drops_every_association_gets_the_rest_over_further_ones(tmp_path: Path) -> None:
    with slow_pacs(drops_at=4) as pacs:
        office = open_office(tmp_path, Clock(), main_pacs(pacs.port))
        case_id = case_with(office, 10, "main")
        office.work()
        assert the_delivery(office, case_id).state is DeliveryState.SENT
        assert set(pacs.stored.values()) == {1}, "no object was stored twice"
        assert len(pacs.stored) == 10
        assert "10 objects stored" in the_delivery(office, case_id).detail
        office.ledger.close()


def test_an_object_at_which_it_breaks_off_keeps_it_from_no_other(tmp_path: Path) -> None:
    with slow_pacs() as pacs:
        office = open_office(tmp_path, Clock(), main_pacs(pacs.port))
        case_id = case_with(office, 5, "main")
        uids = [f"1.2.826.0.1.{int(case_id.encode().hex()[:6], 16)}.{n}" for n in range(1, 6)]
        pacs.poison = frozenset(uids[1:2])
        office.work()
        assert set(pacs.stored) == set(uids) - pacs.poison
        waiting = the_delivery(office, case_id)
        assert waiting.state is DeliveryState.PENDING
        assert "sc-002.dcm" in waiting.detail
        assert "4 of 5 objects are there" in waiting.detail
        assert "main" in waiting.detail
        assert "timeout_s" in waiting.detail
        asked = len(pacs.asked)
        pacs.poison = frozenset()
        office.work_for(0.1)
        assert the_delivery(office, case_id).state is DeliveryState.SENT
        assert pacs.asked[asked:] == [uids[1]], "only what was missing"
        assert set(pacs.stored.values()) == {1}
        office.ledger.close()


def test_a_slow_pacs_gets_a_part_in_each_attempt(tmp_path: Path) -> None:
    with slow_pacs(delay_s=0.25) as pacs:
        # a third of the limit is for objects: two or three of them
        office = open_office(tmp_path, Clock(), main_pacs(pacs.port), work={"deliver_limit_s": 1.5})
        case_id = case_with(office, 6, "main")
        office.work()
        waiting = the_delivery(office, case_id)
        assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 0)
        assert "slow" in waiting.detail
        assert 1 <= len(pacs.stored) < 6
        wait = waiting.next_attempt_at - office.clock.now
        assert wait.total_seconds() <= 5, "it goes on soon"
        for _ in range(6):
            office.clock.forward(10)
            office.work()
        assert the_delivery(office, case_id).state is DeliveryState.SENT
        assert set(pacs.stored.values()) == {1}
        assert len(pacs.stored) == 6
        office.ledger.close()


def test_a_worker_that_ends_in_the_middle_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    """What the ledger has recorded is known to every process."""
    with slow_pacs() as pacs:
        office = open_office(tmp_path, Clock(), main_pacs(pacs.port))
        case_id = case_with(office, 4, "main")
        archive = office.context.destinations["main"]
        record, added = archive._stored, []  # type: ignore[attr-defined]

        class Dies:
            known = record.known

            def add(self, *given: Any) -> None:
                record.add(*given)
                added.append(given)
                if len(added) == 2:
                    raise SystemExit

        archive._stored = Dies()  # type: ignore[attr-defined]
        with pytest.raises(SystemExit):
            run_delivery(office.context, case_id, "main", redelivered=False)
        archive._stored = record  # type: ignore[attr-defined]
        run_delivery(office.context, case_id, "main", redelivered=True)
        assert the_delivery(office, case_id).state is DeliveryState.SENT
        assert set(pacs.stored.values()) == {1}
        office.ledger.close()


def test_one_process_stays_free_for_alerts(tmp_path: Path) -> None:
    with slow_pacs(delay_s=0.6) as pacs, smtp_server() as mailbox:
        email = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "c@x.example", "to": ["a@x.example"]}
        office = open_office(tmp_path, Clock(), {**main_pacs(pacs.port), "email": email}, work={"deliver_processes": 2})
        first, second = case_with(office, 3, "main"), case_with(office, 1, "main", "email")
        for posted in office.ledger.outbox.due(office.clock()):
            office.ledger.outbox.mark_published(posted)
        other = threading.Thread(target=run_delivery, args=(office.context, first, "main"), kwargs={"redelivered": False})
        other.start()
        assert pacs.on_object.wait(10)
        began = time.monotonic()
        run_delivery(office.context, second, "main", redelivered=False)
        run_delivery(office.context, second, "email", redelivered=False)
        assert time.monotonic() - began < 0.6, "neither waited for the PACS"
        assert other.is_alive()
        other.join(20)
        assert len(mailbox.mails) == 1
        waiting = the_delivery(office, second)
        assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 0)
        office.work_for(0.01, step_s=2)
        assert the_delivery(office, second).state is DeliveryState.SENT
        case = office.ledger.cases.get(second)
        assert case is not None
        assert case.state is CaseState.DELIVERED
        office.ledger.close()


@given(
    files=st.dictionaries(st.text("12.", min_size=1, max_size=4), st.sampled_from("ab")),
    known=st.dictionaries(st.text("12.", min_size=1, max_size=4), st.sampled_from("ab")),
)
def test_what_is_still_to_send(files: dict[str, str], known: dict[str, str]) -> None:
    left = still_to_send(files.items(), {uid: StoredObject(sha256, 0) for uid, sha256 in known.items()})
    assert left == [uid for uid in files if known.get(uid) != files[uid]]
