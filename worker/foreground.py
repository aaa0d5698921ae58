"""`corewatch run`: one case in the foreground, through the same stages as in the workers; no broker, no ledger, no delivery."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from config.settings import Settings
from conversion.converters import ConverterName, compare_converters
from conversion.media import find_files, unpack
from conversion.series_checks import WHOLE_HEAD
from conversion.truncation import read_whole_instance
from corewatch.casefolder import CaseFolder
from corewatch.cautions import Caution
from corewatch.clock import Clock, utc_now
from corewatch.errors import ConfigurationError, NotAnalysed
from corewatch.identity import case_key, new_case_id
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.result import Result
from corewatch.selection import Rejected, Selected, select
from corewatch.states import CaseState, Stage
from corewatch.volumes import AlignedHead
from outputs.case import ReportedCase
from outputs.dicom.object_manifest import ObjectManifest
from worker.models.detector import Detector
from worker.models.detectors import load
from worker.stages.bodies import STAGE_BODIES, run_render
from worker.stages.case_files import FindingRecord, PreparedRecord, result_of
from worker.stages.prepare import AlignedSource, DicomSource, HeadObserver, Progress, Source, no_observer, no_progress
from worker.stages.render import alignment_view, write_alignment_page

NIFTI_SUFFIXES = (".nii.gz", ".nii")

MOST_NAMED_FILES = 5
"""Files that cannot be read and are named one by one."""


@dataclass(frozen=True, slots=True)
class SelectedSeries:
    """The series to analyse, the case key made from it, and the model that a rule of the settings names for it."""

    source: Source
    key: str
    series_uid: str | None
    model: str | None
    notes: tuple[str, ...] = ()


def run_case(
    given: Path,
    out: Path,
    settings: Settings,
    *,
    aligned: bool = False,
    model: str | None = None,
    converter: ConverterName | None = None,
    compare: bool = False,
    qc: bool = False,
    progress: Progress = no_progress,
    clock: Clock = utc_now,
) -> Result:
    """Analyse one case and leave all its files in `out`.

    Parameters
    ----------
    given
        A folder of DICOM files, one DICOM file, a zip of them, or an aligned NIfTI file. Of several series the largest is analysed
        that the rules of the settings select as a CTA of the head. Files that cannot be read are set aside and named in the notes.
    out
        Folder for the results, made if it does not exist; files of an earlier run are replaced.
    aligned
        `given` is an aligned NIfTI file, whatever its name.
    model
        Name of the model; None: the one of the rule or of the settings.
    converter
        The converter of a DICOM series; None: that of the settings.
    compare
        Also convert the series with every converter; the notes say where their results differ.
    qc
        Also draw `qc.png`, which shows the alignment, also where its score is too low.

    Returns
    -------
    The result, `delivered` or `not_analysed`.

    Raises
    ------
    ConfigurationError
        `given` does not exist, the model or the device is not available, or `out` holds DICOM files that the results would replace.
    """
    if not given.exists():
        raise ConfigurationError(f"{given} does not exist", "name a folder, a DICOM file, a zip or an aligned NIfTI file")
    if converter is not None:
        settings = settings.model_copy(update={"series": settings.series.model_copy(update={"converter": str(converter)})})
    received_at, folder = clock(), CaseFolder(out)
    heads: list[AlignedHead] = []
    case = ForegroundCase(new_case_id(), folder, settings, clock, received_at, progress, heads.append if qc else no_observer)
    _clear(folder, given)
    with tempfile.TemporaryDirectory(prefix="corewatch-") as scratch:
        try:
            case.select(_select_input(given, Path(scratch), settings, aligned=aligned), model)
            if compare:
                case.compare_converters()
            for stage in (Stage.PREPARE, Stage.DETECT):
                STAGE_BODIES[stage](case)
        except NotAnalysed as error:
            case.error = error
        for head in heads:
            view = alignment_view(head.hu, head.quality, settings.work.min_alignment_score)
            write_alignment_page(folder, case.case_id, view, None if case.error is None else str(case.error))
        return run_render(case).result


@dataclass(slots=True)
class ForegroundCase:
    """A case of `corewatch run` as the input of a stage (`worker.stages.bodies.StageInput`)."""

    case_id: str
    folder: CaseFolder
    settings: Settings
    clock: Clock
    received_at: datetime
    progress: Progress
    on_aligned: HeadObserver
    key: str = ""
    series_uid: str | None = None
    error: NotAnalysed | None = None
    notes: tuple[str, ...] = ()
    known_cautions: tuple[Caution, ...] = ()
    _source: Source | None = None
    _detector: Detector | None = None

    def select(self, selected: SelectedSeries, model: str | None) -> None:
        """Take the series and load its model, before anything is written."""
        self.key, self.series_uid, self._source = selected.key, selected.series_uid, selected.source
        self.notes = selected.notes
        for note in self.notes:
            self.progress(note)
        self._detector = load(model or selected.model or self.settings.model.name, self.settings)

    def compare_converters(self) -> None:
        """Convert the selected series with every converter, and note where the results differ."""
        if isinstance(self.source, DicomSource):
            found = compare_converters(self.source.paths, requirements=WHOLE_HEAD)
            for note in found:
                self.progress(note)
            self.notes += found

    @property
    def source(self) -> Source:
        """The selected series."""
        if self._source is None:
            raise RuntimeError("no series is selected")
        return self._source

    @property
    def detector(self) -> Detector:
        """The loaded model."""
        if self._detector is None:
            raise RuntimeError("no model is loaded")
        return self._detector

    def reported(self) -> ReportedCase:
        """The case with what the stages left in its folder."""
        prepared = PreparedRecord.read(self.folder) if self.folder.prepared.exists() else None
        found = FindingRecord.read(self.folder)
        result = result_of(
            prepared,
            found,
            case_id=self.case_id,
            state=CaseState.DELIVERED if self.error is None else CaseState.NOT_ANALYSED,
            series_uid=self.series_uid,
            reason=None if self.error is None else self.error.reason,
            detail="" if self.error is None else self.error.detail,
        )
        result = replace(result, notes=(*self.notes, *result.notes))
        has_source = prepared is not None and self.series_uid is not None
        return ReportedCase(
            case_id=self.case_id,
            key=self.key or self.case_id,
            result=result,
            folder=self.folder,
            received_at=self.received_at.astimezone(),
            analysed_at=(self.clock() if found is None else found.at).astimezone(),
            source_header=self.folder.source_header if has_source else None,
            source_instances=() if prepared is None else prepared.source_instances,
            source_images=None if prepared is None else prepared.source_images,
        )


def _clear(folder: CaseFolder, given: Path) -> None:
    """Remove the files of an earlier run, so that none of another case is left beside this one's, even where this one fails.

    `given` is never removed.
    """
    volumes = (folder.aligned, folder.aligned_sidecar, folder.core_map, folder.core_map_native)
    shown = (folder.result, folder.summary, folder.qc, *_earlier_objects(folder, given))
    for path in (*shown, *volumes, folder.prepared, folder.finding, folder.source_header):
        if path.exists() and not path.samefile(given):
            path.unlink()


def _earlier_objects(folder: CaseFolder, given: Path) -> list[Path]:
    """The DICOM objects of an earlier run.

    Raises
    ------
    ConfigurationError
        The folder holds other DICOM files, which the results would replace, or `given` is in it.
    """
    present = sorted(folder.dicom.glob("*.dcm"))
    try:
        manifest = ObjectManifest.read(folder.dicom)
    except (ValueError, KeyError):
        manifest = None
    ours = set() if manifest is None else {name for names in manifest.made.values() for name in names}
    if any(path.name not in ours for path in present) or given.resolve().is_relative_to(folder.dicom.resolve()):
        raise ConfigurationError(
            f"{folder.dicom} holds DICOM files that the results would replace", "choose another folder for them (--out)"
        )
    return present


def _select_input(given: Path, scratch: Path, settings: Settings, *, aligned: bool) -> SelectedSeries:
    if aligned or given.name.lower().endswith(NIFTI_SUFFIXES):
        return SelectedSeries(AlignedSource(given), hashlib.sha256(given.read_bytes()).hexdigest(), None, None)
    files = unpack(given, scratch) if given.is_file() and zipfile.is_zipfile(given) else find_files(given)
    if not files:
        raise NotAnalysed(Reason.UNREADABLE, "There is no DICOM file in what was given.")
    series: dict[str, dict[Path, Instance]] = defaultdict(dict)
    unreadable: dict[Path, NotAnalysed] = {}
    for path in files:
        try:
            instance = read_whole_instance(path)
        except NotAnalysed as error:
            unreadable[path] = error
        else:
            series[instance.series_uid][path] = instance
    notes = _notes_on_unreadable(unreadable)
    if not series:
        raise NotAnalysed(Reason.UNREADABLE, " ".join(notes))
    try:
        return replace(_select_series(series, settings), notes=notes)
    except NotAnalysed as error:
        raise NotAnalysed(error.reason, " ".join(filter(None, [error.detail, *notes]))) from error


def _notes_on_unreadable(unreadable: dict[Path, NotAnalysed]) -> tuple[str, ...]:
    """A sentence for each file that is set aside because it cannot be read, with its name; the first ones of many."""
    named = [f"File {path.name} set aside. {error.detail}" for path, error in unreadable.items()][:MOST_NAMED_FILES]
    more = len(unreadable) - len(named)
    return (*named, f"{more} more files set aside, which cannot be read.") if more else tuple(named)


def _select_series(series: dict[str, dict[Path, Instance]], settings: Settings) -> SelectedSeries:
    rules = [rule.to_rule() for rule in settings.series.rules]
    largest_first = sorted(series.items(), key=lambda item: (-len(item[1]), item[0]))
    rejected: list[Rejected] = []
    for series_uid, files in largest_first:
        answer = select(list(files.values()), rules)
        if isinstance(answer, Selected):
            key = case_key(series_uid, (i.sop_instance_uid for i in files.values()))
            return SelectedSeries(DicomSource(_ordered(files)), key, series_uid, answer.model)
        rejected.append(answer)
    raise NotAnalysed(rejected[0].reason, rejected[0].detail)


def _ordered(files: dict[Path, Instance]) -> tuple[Path, ...]:
    paths: Sequence[Path] = sorted(files, key=lambda p: (files[p].instance_number or 0, p.name))
    return tuple(paths)
