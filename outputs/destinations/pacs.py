"""Delivery to a PACS by C-STORE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from corewatch.errors import CorewatchError, OperatorNeeded, RetryLater
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.storage_scu import StoreOutcome, StoreResult, TlsFiles, echo, send_files


@dataclass(frozen=True, slots=True)
class PacsParameters:
    """One PACS: its name here, its address, and how we call it."""

    name: str
    ae_title: str
    host: str
    port: int
    our_ae_title: str
    timeout_s: float = 30.0
    tls: TlsFiles | None = None
    objects: tuple[str, ...] = ("sc",)
    """Kinds of objects to send: what the names of the files in the case's `dicom/` begin with."""
    not_analysed: bool = False
    """Also send the page that says why a series was not analysed."""


class PacsDestination:
    """Sends the case's DICOM objects to one PACS."""

    def __init__(self, parameters: PacsParameters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._to = parameters
        self._clock = clock

    @property
    def name(self) -> str:
        """The PACS's own name."""
        return self._to.name

    def applies(self, case: ReportedCase) -> str | None:
        """Skip what did not come as DICOM, what failed without a finding, and what was not analysed unless asked for."""
        if case.result.finding is None and (case.failed or not self._to.not_analysed):
            return "no finding: nothing for a PACS"
        if case.source_header is None:
            return "no DICOM source: there is no study that the result could join"
        return None

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send every object of the kinds asked for. The same objects again are the same instances, which a PACS keeps once."""
        paths = _objects(case, self._to.objects)
        to = self._to
        outcomes = send_files(
            paths, host=to.host, port=to.port, called_ae=to.ae_title, calling_ae=to.our_ae_title, timeout_s=to.timeout_s, tls=to.tls
        )
        self._judge(outcomes)
        warnings = sum(outcome.result is StoreResult.WARNING for outcome in outcomes)
        detail = f"{len(outcomes)} objects stored by {to.ae_title} at {to.host}:{to.port}"
        return Delivered(detail + (f", {warnings} with warnings" if warnings else ""), self._clock())

    def check(self) -> str | None:
        """C-ECHO."""
        to = self._to
        try:
            echo(host=to.host, port=to.port, called_ae=to.ae_title, calling_ae=to.our_ae_title, timeout_s=to.timeout_s, tls=to.tls)
        except CorewatchError as error:
            return str(error)
        return None

    def _judge(self, outcomes: tuple[StoreOutcome, ...]) -> None:
        failed = [outcome for outcome in outcomes if outcome.result is StoreResult.FAILED]
        if not failed:
            return
        # a lasting refusal outweighs a passing one: waiting would hide it
        worst = next((outcome for outcome in failed if not outcome.temporary), failed[0])
        status = "not sent" if worst.status is None else f"status 0x{worst.status:04X}"
        words = f"{self._to.ae_title} refused {len(failed)} of {len(outcomes)} objects: {worst.meaning} ({status})"
        if worst.temporary:
            raise RetryLater(f"{words}; look at its disk and load")
        raise OperatorNeeded(f"{words}; look at its log and its rules for Secondary Capture")


def _objects(case: ReportedCase, kinds: tuple[str, ...]) -> tuple[Path, ...]:
    paths = tuple(path for kind in kinds for path in sorted(case.folder.dicom.glob(f"{kind}-*.dcm")))
    if not paths:
        raise OperatorNeeded("the case's folder holds no DICOM objects of the kinds asked for; start its render stage anew")
    return paths
