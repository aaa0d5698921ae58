"""A PACS that commits, or does not, as a script says; and a modality that asks for commitment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from foundation.dicom_client.association import serve_nothing
from tests.support.storage import NATIVE, STORED

MODEL, INSTANCE = StorageCommitmentPushModel, StorageCommitmentPushModelInstance


@dataclass
class CommittingPacs:
    """What the PACS got."""

    port: int = 0
    stored: list[str] = field(default_factory=list)
    requests: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Transaction UID and SOP Instance UIDs of each N-ACTION."""
    statuses: list[int] = field(default_factory=list)
    """Our answers to its reports."""


def answer_to(request: Dataset, refused: dict[str, int]) -> tuple[Dataset, int]:
    """Event Information and type for the Action Information of a request."""
    event = Dataset()
    event.TransactionUID = request.TransactionUID
    committed = [i for i in request.ReferencedSOPSequence if i.ReferencedSOPInstanceUID not in refused]
    failed = [i for i in request.ReferencedSOPSequence if i.ReferencedSOPInstanceUID in refused]
    if committed:
        event.ReferencedSOPSequence = committed
    for item in failed:
        item.FailureReason = refused[item.ReferencedSOPInstanceUID]
    if failed:
        event.FailedSOPSequence = failed
    return event, 2 if failed else 1


@contextmanager
def committing_pacs(
    refuse: Callable[[int, str], int | None] = lambda number, uid: None,
    *,
    how: str = "same association",
    action_status: int = 0x0000,
    offers: bool = True,
) -> Iterator[CommittingPacs]:
    """A PACS on a free port. `refuse` gives the failure reason for an object in the n-th request, from 1 on.

    `how` it answers: "same association", "before the response" (the report overtakes the answer to the action), or "never".
    """
    pacs = CommittingPacs()
    threads: list[threading.Thread] = []

    def on_store(event: Any) -> int:
        pacs.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def report(association: Any, information: Dataset, event_type: int) -> None:
        status, _ = association.send_n_event_report(information, event_type, MODEL, INSTANCE)
        pacs.statuses.append(int(status.get("Status", -1)))

    def on_action(event: Any) -> Any:
        request = event.action_information
        uids = tuple(str(i.ReferencedSOPInstanceUID) for i in request.ReferencedSOPSequence)
        pacs.requests.append((str(request.TransactionUID), uids))
        refused = {uid: reason for uid in uids if (reason := refuse(len(pacs.requests), uid)) is not None}
        if action_status == 0x0000 and how == "before the response":
            report(event.assoc, *answer_to(request, refused))
        elif action_status == 0x0000 and how == "same association":
            threads.append(threading.Thread(target=report, args=(event.assoc, *answer_to(request, refused))))
            threads[-1].start()
        return action_status, None

    ae = AE(ae_title="PACS")
    for sop_class in STORED:
        ae.add_supported_context(sop_class, list(NATIVE))
    if offers:
        ae.add_supported_context(MODEL)
    handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_N_ACTION, on_action)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    pacs.port = server.socket.getsockname()[1]
    try:
        yield pacs
    finally:
        for thread in threads:
            thread.join(10)
        ae.shutdown()


def ask(port: int, request: Dataset, *, calling: str, action_type: int = 1, instance: str = INSTANCE) -> int:
    """N-ACTION to our listener; returns the status."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(MODEL)
    association = ae.associate("127.0.0.1", port, ae_title="COREWATCH")
    assert association.is_established
    serve_nothing(association)
    status, _ = association.send_n_action(request, action_type, MODEL, instance)
    association.release()
    return int(status.Status)


def report_to(port: int, event: Dataset, event_type: int, *, calling: str = "PACS") -> int:
    """N-EVENT-REPORT to our listener, on an association of the PACS's own; returns the status."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(MODEL)
    association = ae.associate("127.0.0.1", port, ae_title="COREWATCH", ext_neg=[build_role(MODEL, scp_role=True)])
    assert association.is_established
    serve_nothing(association)
    assert association.accepted_contexts[0].as_scp
    status, _ = association.send_n_event_report(event, event_type, MODEL, INSTANCE)
    association.release()
    return int(status.Status)


@contextmanager
def modality(answers: Callable[[], int] = lambda: 0x0000) -> Iterator[tuple[int, list[Dataset]]]:
    """A modality that waits for reports: its port, and what came."""
    reports: list[Dataset] = []

    def on_report(event: Any) -> Any:
        status = answers()
        if status == 0x0000:
            reports.append(event.event_information)
        return status, None

    ae = AE(ae_title="MODALITY")
    ae.add_supported_context(MODEL, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    assert server is not None
    try:
        yield server.socket.getsockname()[1], reports
    finally:
        ae.shutdown()
