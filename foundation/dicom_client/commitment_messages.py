"""Storage commitment data sets: Action Information and Event Information (PS3.4 Tables J.3-1 and J.3-2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from corewatch.storage_commitment import NO_SUCH_OBJECT, CommitmentFailure, CommitmentReport, InstanceReference

REQUEST: Final = 1
"""Action Type ID of Request Storage Commitment."""
ALL_COMMITTED: Final = 1
SOME_FAILED: Final = 2
"""Event Type IDs of the two results."""

MOST_REFERENCES: Final = 100_000
"""Most instances of one transaction; protects memory against absurd requests."""


def encode_request(transaction_uid: str, references: Iterable[InstanceReference]) -> Dataset:
    """Action Information of an N-ACTION."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = [_item(reference) for reference in references]
    return dataset


def decode_request(dataset: Dataset) -> tuple[str, tuple[InstanceReference, ...]]:
    """Transaction UID and instances of an N-ACTION.

    Raises
    ------
    ValueError
        An element is missing or invalid; the message names it, in at most 64 characters.
    """
    return _transaction(dataset), tuple(_references(dataset, "ReferencedSOPSequence"))


def encode_report(report: CommitmentReport) -> tuple[Dataset, int]:
    """Event Information of an N-EVENT-REPORT, and its Event Type ID."""
    dataset = Dataset()
    dataset.TransactionUID = report.transaction_uid
    if report.committed:
        dataset.ReferencedSOPSequence = [_item(reference) for reference in report.committed]
    if not report.failed:
        return dataset, ALL_COMMITTED
    failed = []
    for failure in report.failed:
        item = _item(failure.reference)
        item.FailureReason = failure.reason
        failed.append(item)
    dataset.FailedSOPSequence = failed
    return dataset, SOME_FAILED


def decode_report(dataset: Dataset) -> CommitmentReport:
    """Decode the report of an N-EVENT-REPORT.

    Raises
    ------
    ValueError
        As `decode_request`.
    """
    committed = tuple(_references(dataset, "ReferencedSOPSequence", needed=False))
    failed = tuple(
        CommitmentFailure(reference, int(item.get("FailureReason") or NO_SUCH_OBJECT))
        for reference, item in zip(
            _references(dataset, "FailedSOPSequence", needed=False), dataset.get("FailedSOPSequence") or (), strict=True
        )
    )
    if not committed and not failed:
        raise ValueError("the report names no object")
    return CommitmentReport(_transaction(dataset), committed, failed)


def _item(reference: InstanceReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _transaction(dataset: Dataset) -> str:
    uid = UID(str(dataset.get("TransactionUID") or ""))
    if not uid.is_valid:
        raise ValueError("Transaction UID (0008,1195) missing or malformed")
    return str(uid)


def _references(dataset: Dataset, keyword: str, *, needed: bool = True) -> Iterator[InstanceReference]:
    sequence = dataset.get(keyword) or ()
    if needed and not sequence:
        raise ValueError("Referenced SOP Sequence (0008,1199) missing or empty")
    if len(sequence) > MOST_REFERENCES:
        raise ValueError("too many objects in one transaction")
    for item in sequence:
        sop_class = UID(str(item.get("ReferencedSOPClassUID") or ""))
        instance = UID(str(item.get("ReferencedSOPInstanceUID") or ""))
        if not sop_class.is_valid or not instance.is_valid:
            raise ValueError("a referenced SOP class or instance UID is malformed")
        yield InstanceReference(str(sop_class), str(instance))
