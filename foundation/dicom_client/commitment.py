"""Storage commitment SCU (N-ACTION) and the report to a peer that requested commitment (N-EVENT-REPORT), PS3.4 Annex J."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from corewatch.errors import NoAnswer, OperatorNeeded, RetryLater
from corewatch.storage_commitment import CommitmentReport, InstanceReference
from foundation.dicom_client.association import EventPump, PeerAddress, associated
from foundation.dicom_client.commitment_messages import REQUEST, decode_report, encode_report, encode_request

SYNTAXES: Final = [ImplicitVRLittleEndian, ExplicitVRLittleEndian]
_TEMPORARY: Final = frozenset({0x0110, 0x0131, 0x0210, 0x0213})
"""Temporary N-ACTION statuses (PS3.7 10.1.4.1.10): processing failure, duplicates, resource limitation."""


def new_transaction_uid() -> str:
    """A Transaction UID that cannot be guessed: a report that carries it is accepted as the PACS's own."""
    return str(generate_uid(prefix=None))


def request_commitment(
    peer: PeerAddress, transaction_uid: str, references: Sequence[InstanceReference], *, wait_s: float
) -> CommitmentReport | None:
    """Request commitment of instances that `peer` has stored.

    Parameters
    ----------
    wait_s
        Seconds that the association is kept open for the report. Many PACS report later, on an association that they open.

    Returns
    -------
    The report, or None if the PACS reports later.

    Raises
    ------
    RetryLater
        The peer could not be reached, is busy, or did not accept the request.
    OperatorNeeded
        The peer does not offer storage commitment, or refused permanently.
    """
    reports: list[CommitmentReport] = []

    def on_report(event: Any) -> tuple[int, None]:
        return _take_report(event, reports), None

    context = build_context(StorageCommitmentPushModel, SYNTAXES)
    with associated(peer, [context], handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]) as association:
        pump = EventPump(association)
        try:
            status, _ = association.send_n_action(
                encode_request(transaction_uid, references),
                REQUEST,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
        except RuntimeError:
            raise NoAnswer(f"{peer} ended the association before the request for storage commitment", "look at its log") from None
        if "Status" not in status:
            raise NoAnswer(f"{peer} did not answer the request for commitment within {peer.timeout_s:g} s", "look at its log")
        if status.Status != 0x0000:
            words = f"{peer} refused storage commitment with status 0x{status.Status:04X}"
            raise (
                RetryLater(words, "look at its log")
                if status.Status in _TEMPORARY
                else OperatorNeeded(words, "look at its log, or set commitment: false")
            )
        pump.wait(wait_s, lambda: any(r.transaction_uid == transaction_uid for r in reports))
    return next((r for r in reports if r.transaction_uid == transaction_uid), None)


def check_commitment(peer: PeerAddress) -> None:
    """Check that the peer offers storage commitment; raises as `request_commitment` if not."""
    with associated(peer, [build_context(StorageCommitmentPushModel, SYNTAXES)]):
        pass


def _take_report(event: Any, reports: list[CommitmentReport]) -> int:
    """Append the report of an N-EVENT-REPORT; returns the status of the response."""
    try:
        reports.append(decode_report(event.event_information))
    except Exception:  # a decoder may raise anything on foreign bytes
        return 0x0115  # invalid argument value (PS3.7 C.5.14)
    return 0x0000


def send_report(peer: PeerAddress, report: CommitmentReport) -> None:
    """Report to a peer that requested storage commitment from us, on an association that we open as its SCP (PS3.4 J.3.3).

    Raises
    ------
    RetryLater
        The peer could not be reached, is busy, or did not accept the report.
    OperatorNeeded
        The peer does not accept reports on an association that we open.
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
            raise NoAnswer(f"{peer} ended the association before the report", "look at its log") from None
    if "Status" not in status:
        raise NoAnswer(f"{peer} did not acknowledge the report within {peer.timeout_s:g} s", "look at its log")
    if status.Status != 0x0000:
        raise RetryLater(f"{peer} answered the N-EVENT-REPORT with status 0x{status.Status:04X}", "look at its log")
