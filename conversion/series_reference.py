"""Reference to the series of a case: patient and study for new objects, and the slices that results refer to."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conversion.elements import open_dicom, read_header
from conversion.slices import Slice, slices_of_file
from corewatch.errors import NotAnalysed
from corewatch.source_images import SourceImages, SourceSlice
from foundation.durable import replacing

_SOP_CLASS_UID: Final = 0x00080016


@dataclass(frozen=True, slots=True)
class SourceReference:
    """The series behind a volume; its slices ascend along the normal, as the volume's do.

    `file` is that of the first slice, from which result objects copy patient and study.
    `notes` describe changes to the series: dropped instances, copies, a sheared gantry tilt, interpolation.
    """

    study_uid: str
    series_uid: str
    images: SourceImages
    file: Path
    notes: tuple[str, ...] = ()

    @property
    def slices(self) -> tuple[SourceSlice, ...]:
        """The slices of the series."""
        return self.images.slices

    @property
    def instances(self) -> tuple[tuple[str, str], ...]:
        """(SOP Class UID, SOP Instance UID) of each instance once, in the order of the slices."""
        return tuple(dict.fromkeys((one.sop_class_uid, one.sop_instance_uid) for one in self.slices))


def reference_to(slices: Sequence[Slice], notes: tuple[str, ...] = ()) -> SourceReference:
    """Reference to the slices of one series, in the order given.

    The series must be checked: each slice has a position, and all have one orientation, spacing and size.
    """
    first = slices[0].instance
    images = SourceImages(
        frame_of_reference_uid=first.frame_of_reference_uid,
        rows=first.rows or 0,
        columns=first.columns or 0,
        spacing_mm=first.pixel_spacing_mm or (0.0, 0.0),
        orientation=first.orientation or (0.0,) * 6,
        slices=tuple(
            SourceSlice(one.instance.sop_class_uid, one.instance.sop_instance_uid, one.frame + 1, one.instance.position_lps)
            for one in slices
            if one.instance.position_lps is not None
        ),
    )
    return SourceReference(first.study_uid, first.series_uid, images, slices[0].path, notes)


def file_of_one_study(paths: Iterable[Path]) -> Path | None:
    """A file to copy patient and study from where a series became no volume; None unless all readable files agree on both."""
    slices: list[Slice] = []
    for path in paths:
        with suppress(NotAnalysed):
            slices += slices_of_file(path)
    patients = {one.patient_id for one in slices}
    studies = {one.instance.study_uid for one in slices}
    return slices[0].path if len(patients) == len(studies) == 1 else None


def write_source_header(source: Path, out: Path) -> None:
    """Copy an instance up to its pixel data, byte for byte, so that patient and study stay as the modality wrote them.

    Result objects copy patient and study from it. It holds patient data and stays in the case's folder. A deflated file is
    inflated (Explicit VR Little Endian).

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: not DICOM, or damaged.
    OSError
        `source` could not be read, or `out` not written.
    """
    header = read_header(source, [_SOP_CLASS_UID])
    with open_dicom(source) as (original, _), replacing(out) as file:
        if header.pixels is None:
            shutil.copyfileobj(original, file)
        else:
            file.write(original.read(header.pixels.start))
