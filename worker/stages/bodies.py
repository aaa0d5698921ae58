"""What each stage of the pipeline does: one table, read by the worker's tasks and by `corewatch run`.

The states before and after each stage, and its queue, are in `corewatch.states.PIPELINE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from config.settings import Settings
from conversion.converters import CONVERTERS, ConverterName
from corewatch.casefolder import CaseFolder
from corewatch.cautions import Caution
from corewatch.clock import Clock
from corewatch.states import Stage
from outputs.case import ReportedCase
from worker.models.detector import Detector
from worker.stages.case_files import FindingRecord, PreparedRecord
from worker.stages.detect import detect
from worker.stages.prepare import HeadObserver, Progress, Source, prepare
from worker.stages.render import render


class StageInput(Protocol):
    """One case as the stages see it: its folder, the settings, and what each stage needs beside the files in the folder.

    A case of the ledger (`worker.tasks.LedgerCase`) or of `corewatch run` (`worker.foreground.ForegroundCase`).
    """

    @property
    def folder(self) -> CaseFolder:
        """Folder of the case."""
        ...

    @property
    def settings(self) -> Settings:
        """Settings in effect."""
        ...

    @property
    def clock(self) -> Clock:
        """Clock of the finding."""
        ...

    @property
    def progress(self) -> Progress:
        """Shows what a stage does."""
        ...

    @property
    def on_aligned(self) -> HeadObserver:
        """Is called with the aligned head before its quality is checked."""
        ...

    @property
    def source(self) -> Source:
        """Files of the series (`prepare`)."""
        ...

    @property
    def detector(self) -> Detector:
        """Model of the case (`detect`)."""
        ...

    @property
    def known_cautions(self) -> tuple[Caution, ...]:
        """Cautions that are known before the images are read (`prepare`)."""
        ...

    def reported(self) -> ReportedCase:
        """The case with what the stages have found so far (`render`)."""
        ...


def run_prepare(case: StageInput) -> PreparedRecord:
    """Run `prepare` as the settings say."""
    prepared = prepare(
        case.source,
        case.folder,
        minimum_score=case.settings.work.min_alignment_score,
        convert=CONVERTERS[ConverterName(case.settings.series.converter)],
        progress=case.progress,
        on_aligned=case.on_aligned,
    )
    if case.known_cautions:
        prepared = replace(prepared, cautions=(*case.known_cautions, *prepared.cautions))
        prepared.write(case.folder)
    return prepared


def run_detect(case: StageInput) -> FindingRecord:
    """Run `detect` as the settings say."""
    case.progress("estimating the core")
    return detect(case.folder, case.detector, alert_ml=case.settings.model.alert_ml, clock=case.clock)


def run_render(case: StageInput) -> ReportedCase:
    """Run `render` as the settings say."""
    case.progress("drawing the pages")
    return render(case.reported(), case.settings.deliver.series)


STAGE_BODIES: Final[Mapping[Stage, Callable[[StageInput], PreparedRecord | FindingRecord | ReportedCase]]] = {
    Stage.PREPARE: run_prepare,
    Stage.DETECT: run_detect,
    Stage.RENDER: run_render,
}
"""The body of each stage that works in the case folder. `deliver` has one task per destination: `worker.delivery.run_delivery`."""
