"""One case in the foreground: no broker, no ledger, no delivery; what `corewatch run` does."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from config.settings import Settings
from conversion.headers import read_instance
from conversion.media import find_files, unpack
from corewatch.casefolder import CaseFolder
from corewatch.clock import Clock, utc_now
from corewatch.errors import ConfigurationError, NotAnalysed
from corewatch.identity import case_key, new_case_id
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.result import Result, Timings
from corewatch.selection import Rejected, Selected, select
from corewatch.states import CaseState
from corewatch.volumes import AlignedHead
from outputs.case import ReportedCase
from outputs.dicom.object_manifest import ObjectManifest
from worker.delivery.destinations import naming_of
from worker.models.detectors import load
from worker.progress import Progress, silent
from worker.stages.case_files import Found, Prepared
from worker.stages.detect import detect
from worker.stages.inspection import alignment_view, write_alignment_page
from worker.stages.prepare import AlignedSource, DicomSource, prepare
from worker.stages.render import render

NIFTI_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True, slots=True)
class Input:
    """What is to be analysed, its key, and the model that a rule of the settings asks for."""

    source: DicomSource | AlignedSource
    key: str
    series_uid: str | None
    model: str | None


def run_case(
    given: Path,
    out: Path,
    settings: Settings,
    *,
    aligned: bool = False,
    model: str | None = None,
    qc: bool = False,
    progress: Progress = silent,
    clock: Clock = utc_now,
) -> Result:
    """Analyse one case and leave all its files in `out`.

    Parameters
    ----------
    given
        A folder of DICOM files or one file, a zip of them, or an aligned NIfTI file. Of several series the one that the rules of
        the settings take as a CTA head is analysed, of several such the one with the most images.
    out
        Made if need be; files of an earlier run are replaced.
    aligned
        `given` must be an aligned NIfTI file, whatever its name.
    model
        Name of the model; None: that of the rule or of the settings.
    qc
        Draw `qc.png` too, which shows how the head was aligned, also where its alignment is not trusted.

    Returns
    -------
    The result, `delivered` or `not_analysed`.

    Raises
    ------
    ConfigurationError
        `given` does not exist, the model or the device is not there, or `out` holds DICOM files that the results would replace.
    """
    if not given.exists():
        raise ConfigurationError(f"{given} does not exist")
    case = _Case(new_case_id(), CaseFolder(out), settings, clock, clock())
    _clear(case.folder, given)
    minimum_score = settings.work.min_alignment_score
    with tempfile.TemporaryDirectory(prefix="corewatch-") as scratch:
        try:
            chosen = _input(given, Path(scratch), settings, aligned=aligned)
            case.key, case.series_uid = chosen.key, chosen.series_uid
            detector = load(model or chosen.model or settings.model.name, settings)
            case.prepared = prepare(
                chosen.source, case.folder, minimum_score=minimum_score, progress=progress, look=case.heads.append
            )
            progress("estimating the core")
            case.found = detect(case.folder, detector, alert_ml=settings.model.alert_ml, clock=clock)
        except NotAnalysed as error:
            case.error = error
        progress("drawing the pages")
        for head in case.heads if qc else ():
            view = alignment_view(head.hu, head.quality, minimum_score)
            write_alignment_page(case.folder, case.case_id, view, None if case.error is None else str(case.error))
        return render(case.reported(), naming_of(settings)).result


@dataclass(slots=True)
class _Case:
    """What is known of the case so far."""

    case_id: str
    folder: CaseFolder
    settings: Settings
    clock: Clock
    received_at: datetime
    key: str = ""
    series_uid: str | None = None
    prepared: Prepared | None = None
    found: Found | None = None
    error: NotAnalysed | None = None
    heads: list[AlignedHead] = field(default_factory=list)

    def reported(self) -> ReportedCase:
        """The case as its pages show it."""
        prepared, found, error = self.prepared, self.found, self.error
        result = Result(
            case_id=self.case_id,
            state=CaseState.DELIVERED if error is None else CaseState.NOT_ANALYSED,
            series_uid=self.series_uid,
            reason=None if error is None else error.reason,
            detail="" if error is None else error.detail,
            notes=() if prepared is None else prepared.notes,
            finding=None if found is None else found.finding,
            lps_to_voxel=None if prepared is None else prepared.lps_to_voxel,
            quality=None if prepared is None else prepared.quality,
            timings=Timings(
                convert=None if prepared is None else prepared.convert_s,
                align=None if prepared is None else prepared.align_s,
                detect=None if found is None else found.detect_s,
            ),
        )
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
    """Remove what an earlier run left, so that no file of another case stands beside this one's, also where this one fails; never
    what is to be analysed."""
    volumes = (folder.aligned, folder.aligned_sidecar, folder.core_map, folder.core_map_native)
    shown = (folder.result, folder.summary, folder.qc, *_earlier_objects(folder, given))
    for path in (*shown, *volumes, folder.prepared, folder.finding, folder.source_header):
        if path.exists() and not path.samefile(given):
            path.unlink()


def _earlier_objects(folder: CaseFolder, given: Path) -> list[Path]:
    """The DICOM objects of an earlier run; images of anybody else's in their place would be lost.

    Raises
    ------
    ConfigurationError
        There are such images, or `given` is among the objects.
    """
    there = sorted(folder.dicom.glob("*.dcm"))
    try:
        manifest = ObjectManifest.read(folder.dicom)
    except (ValueError, KeyError):
        manifest = None
    ours = set() if manifest is None else {name for names in manifest.made.values() for name in names}
    if any(path.name not in ours for path in there) or given.resolve().is_relative_to(folder.dicom.resolve()):
        raise ConfigurationError(
            f"{folder.dicom} holds DICOM files that the results would replace", "choose another folder for them (--out)"
        )
    return there


def _input(given: Path, scratch: Path, settings: Settings, *, aligned: bool) -> Input:
    if aligned or given.name.lower().endswith(NIFTI_SUFFIXES):
        return Input(AlignedSource(given), hashlib.sha256(given.read_bytes()).hexdigest(), None, None)
    files = unpack(given, scratch) if given.is_file() and zipfile.is_zipfile(given) else find_files(given)
    if not files:
        raise NotAnalysed(Reason.UNREADABLE, "There is no DICOM file in what was given.")
    series: dict[str, dict[Path, Instance]] = defaultdict(dict)
    for path in files:
        instance = read_instance(path)
        series[instance.series_uid][path] = instance
    return _choose(series, settings)


def _choose(series: dict[str, dict[Path, Instance]], settings: Settings) -> Input:
    rules = [rule.to_rule() for rule in settings.series.rules]
    largest_first = sorted(series.items(), key=lambda item: (-len(item[1]), item[0]))
    rejected: list[Rejected] = []
    for series_uid, files in largest_first:
        answer = select(list(files.values()), rules)
        if isinstance(answer, Selected):
            key = case_key(series_uid, (i.sop_instance_uid for i in files.values()))
            return Input(DicomSource(_ordered(files)), key, series_uid, answer.model)
        rejected.append(answer)
    raise NotAnalysed(rejected[0].reason, rejected[0].detail)


def _ordered(files: dict[Path, Instance]) -> tuple[Path, ...]:
    paths: Sequence[Path] = sorted(files, key=lambda p: (files[p].instance_number or 0, p.name))
    return tuple(paths)
