"""Retrieve SCU (Study Root, PS3.4 Annex C): C-MOVE of a series to our listener, C-GET on our own association."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

from corewatch.errors import OperatorNeeded, RetryLater
from foundation.dicom_client.association import PeerAddress, associated
from foundation.dicom_client.query import FoundSeries

_MOVE, _GET = StudyRootQueryRetrieveInformationModelMove, StudyRootQueryRetrieveInformationModelGet


_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@dataclass(frozen=True, slots=True)
class SubOperations:
    """Numbers of sub-operations of a retrieval, as the PACS counts them; warnings count as completed."""

    completed: int
    failed: int


Progress = Callable[[SubOperations], None]


@dataclass(frozen=True, slots=True)
class MoveDestination:
    """Our listener, as the PACS must know it."""

    ae_title: str
    port: int


@dataclass(frozen=True, slots=True)
class StorageRole:
    """What we store as the SCP on the association of a C-GET.

    Attributes
    ----------
    on_store
        pynetdicom's handler of `EVT_C_STORE`; returns the response.
    """

    sop_classes: Sequence[str]
    transfer_syntaxes: Sequence[str]
    on_store: Callable[[Any], Any]


def move_series(peer: PeerAddress, series: FoundSeries, listener: MoveDestination, progress: Progress) -> SubOperations:
    """C-MOVE: let `peer` send a series to our listener.

    Raises
    ------
    RetryLater
        The PACS could not be reached, is busy, or broke off.
    OperatorNeeded
        It refuses, most often because it does not know our listener; the remedy says what to enter there.
    """
    with associated(peer, [build_context(_MOVE, _SYNTAXES)]) as association:
        return _follow(peer, listener, association.send_c_move(_query(series), listener.ae_title, _MOVE), progress)


def get_series(
    peer: PeerAddress, series: FoundSeries, listener: MoveDestination, storage: StorageRole, progress: Progress
) -> SubOperations:
    """C-GET: let `peer` send a series on this association, where we are the Storage SCP too; raises as `move_series`."""
    contexts = [build_context(_GET, _SYNTAXES)]
    # one transfer syntax in each context: the PACS can send every instance as it has it
    contexts += [build_context(sop_class, syntax) for sop_class in storage.sop_classes for syntax in storage.transfer_syntaxes]
    handlers = [(evt.EVT_C_STORE, storage.on_store)]
    with associated(peer, contexts, as_scp=storage.sop_classes, handlers=handlers) as association:
        return _follow(peer, listener, association.send_c_get(_query(series), _GET), progress)


def check_query_retrieve(peer: PeerAddress, retrieve: str) -> None:
    """C-ECHO, and whether the peer accepts queries and this retrieval (`move`, `get`); returns if so, raises as `move_series`."""
    wanted = [StudyRootQueryRetrieveInformationModelFind, _GET if retrieve == "get" else _MOVE]
    with associated(peer, [build_context(sop_class, _SYNTAXES) for sop_class in (Verification, *wanted)]) as association:
        accepted = {cx.abstract_syntax for cx in association.accepted_contexts}
        refused = [sop_class.name for sop_class in wanted if sop_class not in accepted]
        if refused:
            raise OperatorNeeded(f"{peer} does not take {', '.join(refused)}", f"allow {peer.calling_ae!r} to use them")
        if Verification in accepted and association.send_c_echo().get("Status") != 0x0000:
            raise RetryLater(f"{peer} did not answer the C-ECHO with success", "look at its log")


def _query(series: FoundSeries) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = series.study_uid
    query.SeriesInstanceUID = series.series_uid
    return query


def _follow(peer: PeerAddress, listener: MoveDestination, answers: Any, progress: Progress) -> SubOperations:
    """Read the responses of a retrieval to the final one (PS3.4 Tables C.4-2 and C.4-3)."""
    so_far = SubOperations(0, 0)
    try:
        for status, _ in answers:
            if "Status" not in status:
                raise RetryLater(f"{peer} broke off or was silent for {peer.longest_silence_s:g} s", "look at its log and load")
            so_far = SubOperations(
                int(status.get("NumberOfCompletedSuboperations") or so_far.completed)
                + int(status.get("NumberOfWarningSuboperations") or 0),
                int(status.get("NumberOfFailedSuboperations") or so_far.failed),
            )
            progress(so_far)
            if status.Status not in {0xFF00, 0x0000, 0xB000}:
                raise _refusal(peer, listener, status.Status)
    except RuntimeError:
        raise RetryLater(f"{peer} ended the association before the request", "look at its log") from None
    except ValueError:
        raise OperatorNeeded(f"{peer} does not offer this way of retrieval", "set retrieve to the other one (move, get)") from None
    return so_far


def _refusal(peer: PeerAddress, listener: MoveDestination, status: int) -> RetryLater | OperatorNeeded:
    words = f"{peer} refused to send with status 0x{status:04X}"
    if status == 0xA801:
        return OperatorNeeded(
            f"{peer} does not know the move destination {listener.ae_title!r}",
            f"enter there a DICOM node with AE title {listener.ae_title}, the address of this machine and port {listener.port}",
        )
    if status in {0xA701, 0xA702, 0x0110, 0x0213, 0xFE00}:
        return RetryLater(words, "look at its load and log, and whether `corewatch listen` runs")
    return OperatorNeeded(
        words,
        f"look at its log, let our AE title {peer.calling_ae!r} retrieve from it, and with retrieve: move see that "
        f"`corewatch listen` runs and that it can reach port {listener.port} of this machine",
    )
