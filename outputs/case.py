"""A case as its readers get it: the value that pages, DICOM objects and mails are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from corewatch.casefolder import CaseFolder
from corewatch.cautions import CautionCode
from corewatch.errors import NotAnalysed
from corewatch.result import Result
from corewatch.source_images import SourceImages
from corewatch.states import CaseState, DeliveryState


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """State of the delivery to one destination, as reports show it.

    Attributes
    ----------
    detail
        What was sent, or why it was not. Free of patient data.
    refused_at
        When it was refused last; None where it never was.
    accepted_for
        Of a delivery by mail: number of recipients for whom a server has accepted it.
    """

    destination: str
    state: DeliveryState
    detail: str = ""
    refused_at: datetime | None = None
    accepted_for: int = 0


@dataclass(frozen=True, slots=True)
class ReportedCase:
    """One case with its finding, or the reason why it has none.

    Attributes
    ----------
    key
        The case's key (`corewatch.identity.case_key`), hex; the DICOM UIDs of the result are derived from it.
    result
        What was found, or why nothing was.
    folder
        Where the case's files are.
    received_at, analysed_at
        When the last instance was stored, and when the finding (or the reason) was known. Aware of their zone, which is the zone
        that pages and mails show.
    source_header
        DICOM header without pixel data of one source instance. None where the input was a NIfTI file, which has no study that a
        result could join.
    source_instances
        (SOP Class UID, SOP Instance UID) of every instance that the result was made from.
    source_images
        Their slices with the geometry, for objects in the planes of the source. None where the geometry is not known.
    superseded_report
        Structured report of the revision that this one replaces, where there is one.
    extra_recipients
        Mail addresses that belong to the arrival of this case, besides the general lists.
    study_uid
        Study Instance UID of the source; None where the input was no DICOM.
    acknowledged
        Whether somebody has acknowledged the alert.
    ended_at
        When the case ended without a result, or failed with one; None otherwise.
    deliveries
        What has become of each delivery so far.
    """

    case_id: str
    key: str
    result: Result
    folder: CaseFolder
    received_at: datetime
    analysed_at: datetime
    source_header: Path | None = None
    source_instances: tuple[tuple[str, str], ...] = ()
    source_images: SourceImages | None = None
    superseded_report: Path | None = None
    extra_recipients: tuple[str, ...] = ()
    study_uid: str | None = None
    acknowledged: bool = False
    ended_at: datetime | None = None
    deliveries: tuple[DeliveryStatus, ...] = ()

    def __post_init__(self) -> None:
        if self.received_at.tzinfo is None or self.analysed_at.tzinfo is None:
            raise ValueError("the times of a case must be aware of their zone")
        if self.case_id != self.result.case_id:
            raise ValueError("the result belongs to another case")

    @property
    def is_positive(self) -> bool:
        """Whether lists that want positive results alone get it: an alert, or a dense region that may be blood."""
        finding = self.result.finding
        if finding is None:
            return False
        return finding.alert or any(caution.code is CautionCode.DENSE_REGION for caution in self.result.cautions)

    @property
    def revision(self) -> int:
        """1 for the first result of a series; a slice that is received later makes the next one."""
        return self.result.revision

    @property
    def failed(self) -> bool:
        """Whether a stage failed and an operator must look."""
        return self.result.state is CaseState.FAILED

    @property
    def as_alert(self) -> ReportedCase:
        """The case as it is reported to those who must act on its alert: also where a later stage failed."""
        finding = self.result.finding
        if finding is None or not finding.alert or not self.failed:
            return self
        return replace(self, result=replace(self.result, state=CaseState.DELIVERING), ended_at=None)

    @property
    def remedy(self) -> str | None:
        """What can be done where a series was not analysed; None where it was, or where it failed."""
        return None if self.result.reason is None else self.result.reason.remedy

    @property
    def problem(self) -> str | None:
        """Why there is no finding, in words for people; None where there is one."""
        if self.result.reason is not None:
            return str(NotAnalysed(self.result.reason, self.result.detail))
        if self.result.finding is None or self.failed:
            return self.result.detail or "A stage failed; the log of corewatch has the details."
        return None
