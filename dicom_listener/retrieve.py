"""Retrieve SCU (PS3.4 Annex C, Study Root): a PACS sends a series to our listener (C-MOVE), or on our own association (C-GET)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from config.settings import Settings
from corewatch.arrival import ArrivalOutcome
from corewatch.clock import utc_now
from corewatch.dicom_uids import CT_SOP_CLASSES
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.units import MIB
from dicom_listener.contexts import DECODABLE
from dicom_listener.disk_guard import DiskGuard
from dicom_listener.part10 import StoreRequest
from dicom_listener.query import FoundSeries
from dicom_listener.services import Sender
from dicom_listener.storage_scp import InstanceSink, SpoolTarget, StorageSession
from foundation.dicom_client.association import PeerAddress, associated
from foundation.durable import make_folders

_MOVE, _GET = StudyRootQueryRetrieveInformationModelMove, StudyRootQueryRetrieveInformationModelGet


@dataclass(frozen=True, slots=True)
class Retrieved:
    """How many images came and how many did not, as the PACS counts them."""

    completed: int
    failed: int


Progress = Callable[[Retrieved], None]


def move_series(peer: PeerAddress, series: FoundSeries, settings: Settings, progress: Progress) -> Retrieved:
    """Let `peer` send a series to our listener.

    Raises
    ------
    RetryLater
        The PACS could not be reached, is busy, or broke off.
    OperatorNeeded
        It refuses; most often it does not know our listener, and the message says what to enter there.
    """
    ours = settings.listener
    context = build_context(_MOVE, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    with associated(peer, [context]) as association:
        return _follow(peer, ours.ae_title, ours.port, association.send_c_move(_query(series), ours.ae_title, _MOVE), progress)


def get_series(peer: PeerAddress, series: FoundSeries, settings: Settings, progress: Progress) -> Retrieved:
    """Let `peer` send a series on this association; the images enter the spool as an arrival of their own.

    An image is acknowledged when it is durable, as at the listener; raises as `move_series`.
    """
    listener, received = settings.listener, settings.received_dir
    make_folders(received)
    spool = SpoolTarget(received, DiskGuard(received, listener.reserve_gib), utc_now, listener.max_instance_mib * MIB)
    session = StorageSession(spool, Sender(peer.called_ae, peer.host))
    classes = sorted(CT_SOP_CLASSES)
    # one transfer syntax in each context: the PACS can send every image as it has it
    contexts = [build_context(_GET, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
    contexts += [build_context(sop_class, syntax) for sop_class in classes for syntax in DECODABLE]

    def on_store(event: Any) -> Any:
        request = event.request
        image = InstanceSink(
            session,
            StoreRequest(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), str(event.context.transfer_syntax)),
        )
        image.write(request.DataSet.getbuffer())
        reply = image.finish()
        answer = Dataset()
        answer.Status = reply.status
        if reply.comment:
            answer.ErrorComment = reply.comment
        return answer

    outcome = ArrivalOutcome.ABORTED
    try:
        with associated(peer, contexts, as_scp=classes, handlers=[(evt.EVT_C_STORE, on_store)]) as association:
            got = _follow(peer, listener.ae_title, listener.port, association.send_c_get(_query(series), _GET), progress)
        outcome = ArrivalOutcome.RELEASED
    finally:
        session.close(outcome)
    return got


def check(peer: PeerAddress, retrieve: str) -> None:
    """C-ECHO, and whether queries and this way of retrieval (`move`, `get`) are taken; returns if so, raises as `move_series`."""
    wanted = [StudyRootQueryRetrieveInformationModelFind, _GET if retrieve == "get" else _MOVE]
    syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    with associated(peer, [build_context(sop_class, syntaxes) for sop_class in (Verification, *wanted)]) as association:
        taken = {cx.abstract_syntax for cx in association.accepted_contexts}
        refused = [sop_class.name for sop_class in wanted if sop_class not in taken]
        if refused:
            raise OperatorNeeded(f"{peer} does not take {', '.join(refused)}", f"allow {peer.calling_ae!r} to use them")
        if Verification in taken and association.send_c_echo().get("Status") != 0x0000:
            raise RetryLater(f"{peer} did not answer the C-ECHO with success", "look at its log")


def _query(series: FoundSeries) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = series.study_uid
    query.SeriesInstanceUID = series.series_uid
    return query


def _follow(peer: PeerAddress, ae_title: str, port: int, answers: Any, progress: Progress) -> Retrieved:
    """Read the responses of a retrieval to its end (PS3.4 Tables C.4-2 and C.4-3)."""
    so_far = Retrieved(0, 0)
    try:
        for status, _ in answers:
            if "Status" not in status:
                raise RetryLater(f"{peer} broke off or was silent for {peer.longest_silence_s:g} s", "look at its log and load")
            so_far = Retrieved(
                int(status.get("NumberOfCompletedSuboperations") or so_far.completed)
                + int(status.get("NumberOfWarningSuboperations") or 0),
                int(status.get("NumberOfFailedSuboperations") or so_far.failed),
            )
            progress(so_far)
            if status.Status not in {0xFF00, 0x0000, 0xB000}:
                raise _refusal(peer, ae_title, port, status.Status)
    except RuntimeError:
        raise RetryLater(f"{peer} ended the association before it was asked", "look at its log") from None
    except ValueError:
        raise OperatorNeeded(f"{peer} does not offer this way of retrieval", "set retrieve to the other one (move, get)") from None
    return so_far


def _refusal(peer: PeerAddress, ae_title: str, port: int, status: int) -> RetryLater | OperatorNeeded:
    words = f"{peer} refused to send with status 0x{status:04X}"
    if status == 0xA801:
        return OperatorNeeded(
            f"{peer} does not know the move destination {ae_title!r}",
            f"enter there a DICOM node with AE title {ae_title}, the address of this machine and port {port}",
        )
    if status in {0xA701, 0xA702, 0x0110, 0x0213, 0xFE00}:
        return RetryLater(words, "look at its load and log, and whether `corewatch listen` runs")
    return OperatorNeeded(
        words,
        f"look at its log, let our AE title {peer.calling_ae!r} retrieve from it, and with retrieve: move see that "
        f"`corewatch listen` runs and that it can reach port {port} of this machine",
    )
