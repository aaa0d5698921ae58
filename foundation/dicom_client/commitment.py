"""Asking a PACS to commit what it has stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from corewatch.errors import NoAnswer, OperatorNeeded, RetryLater
from corewatch.storage_commitment import CommitmentReport, InstanceReference
from foundation.dicom_client.association import PeerAddress, Served, associated
from foundation.dicom_client.commitment_messages import REQUEST, decode_report, encode_report, encode_request

SYNTAXES: Final = [ImplicitVRLittleEndian, ExplicitVRLittleEndian]
_PASSING: Final = frozenset({0x0110, 0x0131, 0x0210, 0x0213})
"""Statuses of an N-ACTION (PS3.7 10.1.4.1.10) that may pass: processing failure, duplicates, resource limitation."""


def new_transaction_uid() -> str:
    """A Transaction UID that nobody can guess: whoever knows it is believed to be the PACS that was asked."""
    return str(generate_uid(prefix=None))


def request_commitment(
    peer: PeerAddress, transaction_uid: str, references: Sequence[InstanceReference], *, wait_s: float
) -> CommitmentReport | None:
    """Ask `peer` to commit objects that it has stored.

    Parameters
    ----------
    wait_s
        How long the association is kept open for the answer, in seconds. Many a PACS answers later, on an association of its own.

    Returns
    -------
    The answer, or None: it will come later.

    Raises
    ------
    RetryLater
        The peer could not be reached, is busy, or did not take the request.
    OperatorNeeded
        The peer does not offer storage commitment, or refused for good.
    """
    reports: list[CommitmentReport] = []

    def on_report(event: Any) -> tuple[int, None]:
        return _take_report(event, reports), None

    context = build_context(StorageCommitmentPushModel, SYNTAXES)
    with associated(peer, [context], handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]) as association:
        served = Served(association)
        try:
            status, _ = association.send_n_action(
                encode_request(transaction_uid, references),
                REQUEST,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
        except RuntimeError:
            raise NoAnswer(f"{peer} ended the association before it was asked for storage commitment", "look at its log") from None
        if "Status" not in status:
            raise NoAnswer(f"{peer} did not answer the request for commitment within {peer.timeout_s:g} s", "look at its log")
        if status.Status != 0x0000:
            words = f"{peer} refused storage commitment with status 0x{status.Status:04X}"
            raise (
                RetryLater(words, "look at its log")
                if status.Status in _PASSING
                else OperatorNeeded(words, "look at its log, or set commitment: false")
            )
        served.wait(wait_s, lambda: any(r.transaction_uid == transaction_uid for r in reports))
    return next((r for r in reports if r.transaction_uid == transaction_uid), None)


def check_commitment(peer: PeerAddress) -> None:
    """Whether the peer offers storage commitment; returns if so, raises as `request_commitment`."""
    with associated(peer, [build_context(StorageCommitmentPushModel, SYNTAXES)]):
        pass


def _take_report(event: Any, reports: list[CommitmentReport]) -> int:
    """Keep what an N-EVENT-REPORT says; returns the status to answer with."""
    try:
        reports.append(decode_report(event.event_information))
    except Exception:  # whatever a stranger's bytes make a decoder raise
        return 0x0115  # invalid argument value (PS3.7 C.5.14)
    return 0x0000


def send_report(peer: PeerAddress, report: CommitmentReport) -> None:
    """Answer a peer that asked us for storage commitment, on an association of our own, as its SCP (PS3.4 J.3.3).

    Raises
    ------
    RetryLater
        The peer could not be reached, is busy, or did not take the answer.
    OperatorNeeded
        The peer does not take answers on an association of ours.
    """
    context = build_context(StorageCommitmentPushModel, SYNTAXES)
    information, event_type = encode_report(report)
    with associated(peer, [context], as_scp=[StorageCommitmentPushModel]) as association:
        if not association.accepted_contexts[0].as_scp:
            raise OperatorNeeded(f"{peer} did not let us be the SCP of storage commitment (role selection)", "allow it there")
        try:
            status, _ = association.send_n_event_report(
                information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except RuntimeError:
            raise NoAnswer(f"{peer} ended the association before it had the answer", "look at its log") from None
    if "Status" not in status:
        raise NoAnswer(f"{peer} did not acknowledge the answer within {peer.timeout_s:g} s", "look at its log")
    if status.Status != 0x0000:
        raise RetryLater(f"{peer} answered the N-EVENT-REPORT with status 0x{status.Status:04X}", "look at its log")
