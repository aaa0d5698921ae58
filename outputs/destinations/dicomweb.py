"""Delivery to an archive by STOW-RS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from outputs.case import ReportedCase
from outputs.destinations.base import Delivered
from outputs.destinations.objects import judge, left_out, objects_of, warnings, why_not
from outputs.destinations.stow import WebServer, check, store


@dataclass(frozen=True, slots=True)
class DicomwebParameters:
    """One archive: its name here, its server, and what it gets; see `outputs.destinations.pacs.PacsParameters`."""

    name: str
    server: WebServer
    objects: tuple[str, ...] = ("sc", "seg", "sr")
    not_analysed: bool = False


class DicomwebDestination:
    """Stores the case's DICOM objects over the web."""

    def __init__(self, parameters: DicomwebParameters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._to = parameters
        self._clock = clock

    @property
    def name(self) -> str:
        """The archive's own name."""
        return self._to.name

    @property
    def server(self) -> str:
        """Its name, too."""
        return self._to.name

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip what did not come as DICOM, what failed without a finding, and what was not analysed unless asked for."""
        return why_not(case, self._to.objects, not_analysed=self._to.not_analysed)

    def deliver(self, case: ReportedCase) -> Delivered:
        """Store every object of the kinds asked for. The same objects again are the same instances, which an archive keeps once."""
        outcomes = store(self._to.server, objects_of(case, self._to.objects))
        judge(outcomes, str(self._to.server))
        return Delivered(
            f"{len(outcomes)} objects stored by {self._to.server}{warnings(outcomes)}{left_out(case, self._to.objects)}",
            self._clock(),
        )

    def check(self) -> None:
        """A search for one study, with the same credentials."""
        check(self._to.server)
