"""A delivery that ends only when the PACS has confirmed that it keeps every object."""

from __future__ import annotations

from corewatch.errors import OperatorNeeded
from corewatch.states import DeliveryState
from corewatch.storage_commitment import Committed, NotCommitted, next_commitment_step
from foundation.dicom_client.commitment import new_transaction_uid
from outputs.case import ReportedCase
from outputs.destinations.pacs import CommitmentTerms, PacsDestination
from worker.context import WorkerContext


def deliver_committed(
    context: WorkerContext, case: ReportedCase, destination: PacsDestination, terms: CommitmentTerms
) -> tuple[DeliveryState, str]:
    """Do the next step: send what is not committed and ask for it, or see what was answered.

    Returns
    -------
    `sent` when everything is committed, `awaiting` while the answer is waited for; and a line for the record.

    Raises
    ------
    RetryLater
        The PACS cannot take the objects, or the request, now.
    OperatorNeeded
        The PACS refuses, does not keep the objects, or did not answer in time.
    """
    asked, now = context.ledger.commitments_asked, context.ledger.clock()
    step = next_commitment_step(asked.of(case.case_id, destination.name), now)
    if isinstance(step, Committed):
        return DeliveryState.SENT, f"{step.count} objects stored and committed"
    if isinstance(step, NotCommitted):
        raise OperatorNeeded(step.why)
    delivered, references = destination.store(case, step.leave_out)
    transaction_uid = new_transaction_uid()
    uids = [reference.sop_instance_uid for reference in references]
    asked.open(transaction_uid, case.case_id, destination.name, uids, context.ledger.clock() + terms.patience)
    report = destination.ask_commitment(transaction_uid, references)
    if report is not None:
        asked.report(report)
    detail = f"{delivered.detail}; waits for storage commitment"
    asked.wait(transaction_uid, detail)
    return DeliveryState.AWAITING, detail
