"""Header index of one DICOM file (`corewatch.instance.Instance`)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from conversion import elements
from conversion.decoders import decoders
from conversion.elements import Header, damage_is_unreadable, integer, number, numbers, read_header, sequence, text, texts, unsigned
from corewatch.errors import NotAnalysed
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.search_keys import identifier_hash

SHARED_GROUPS: Final = 0x52009229
"""(5200,9229) Shared Functional Groups Sequence, PS3.3 C.7.6.16."""

PLANE_ORIENTATION: Final = 0x00209116
PIXEL_MEASURES: Final = 0x00289110

_CONTRAST_AGENT: Final = 0x00180010
_CONTRAST_AGENT_SEQUENCE: Final = 0x00180012
_CONTRAST_ROUTE: Final = 0x00181040
_CONTRAST_ROUTE_SEQUENCE: Final = 0x00180014
_CONTRAST_USAGE: Final = 0x00189341
_ADMINISTERED: Final = 0x00189342
_FRAME_ANATOMY: Final = 0x00209071
_ANATOMIC_REGION: Final = 0x00082218
_CODE_MEANING: Final = 0x00080104

INSTANCE_TAGS: Final = [
    elements.SPECIFIC_CHARACTER_SET,
    0x00080008,  # Image Type
    0x00080032,  # Acquisition Time
    0x00080016,  # SOP Class UID
    0x00080018,  # SOP Instance UID
    0x00080050,  # Accession Number
    0x00080060,  # Modality
    0x00080070,  # Manufacturer
    0x00081030,  # Study Description
    0x0008103E,  # Series Description
    0x00081090,  # Manufacturer's Model Name
    _ANATOMIC_REGION,
    _CONTRAST_AGENT,
    _CONTRAST_AGENT_SEQUENCE,
    0x00100020,  # Patient ID
    0x00180015,  # Body Part Examined
    _CONTRAST_ROUTE_SEQUENCE,
    0x00180050,  # Slice Thickness
    0x00180060,  # KVP
    0x00181030,  # Protocol Name
    _CONTRAST_ROUTE,
    0x00181041,  # Contrast/Bolus Volume
    0x00181210,  # Convolution Kernel
    0x00189361,  # Multi-energy CT Acquisition
    0x0020000D,  # Study Instance UID
    0x0020000E,  # Series Instance UID
    0x00200011,  # Series Number
    0x00200012,  # Acquisition Number
    0x00200013,  # Instance Number
    0x00200032,  # Image Position (Patient)
    0x00200037,  # Image Orientation (Patient)
    0x00200052,  # Frame of Reference UID
    0x00200100,  # Temporal Position Identifier
    0x00201209,  # Number of Series Related Instances
    0x00280008,  # Number of Frames
    0x00280010,  # Rows
    0x00280011,  # Columns
    0x00280030,  # Pixel Spacing
    SHARED_GROUPS,
]
"""Elements that `read_instance` reads."""


def read_instance(path: Path, search_key: bytes | None = None) -> Instance:
    """Read the header index of one DICOM file; the pixel data is not touched.

    Values that are absent or violate their VR become None or empty. For a multi-frame object, orientation and pixel
    spacing are those that all frames share.

    Parameters
    ----------
    search_key
        Key of the hashes of Accession Number and Patient ID; None: no hashes.

    Raises
    ------
    NotAnalysed
        `UNREADABLE`: not DICOM, a damaged header, or one without a UID that identifies it.
    OSError
        The file could not be opened or read.
    """
    header = read_header(path, INSTANCE_TAGS)
    with damage_is_unreadable("its header cannot be read"):
        return instance_of(header, search_key)


def instance_of(header: Header, search_key: bytes | None = None) -> Instance:
    """Index of a header that was read with at least `INSTANCE_TAGS`. Raises `NotAnalysed(UNREADABLE)` where a UID is missing."""
    dataset = header.dataset
    uids = {
        "SOP Class UID": text(dataset, 0x00080016),
        "SOP Instance UID": text(dataset, 0x00080018),
        "Study Instance UID": text(dataset, 0x0020000D),
        "Series Instance UID": text(dataset, 0x0020000E),
    }
    missing = [name for name, uid in uids.items() if not uid]
    if missing:
        raise NotAnalysed(Reason.UNREADABLE, f"A file has no {' and no '.join(missing)}.")
    shared = next(iter(sequence(dataset, SHARED_GROUPS)), None)
    return Instance(
        sop_instance_uid=uids["SOP Instance UID"],
        sop_class_uid=uids["SOP Class UID"],
        transfer_syntax_uid=header.transfer_syntax_uid,
        series_uid=uids["Series Instance UID"],
        study_uid=uids["Study Instance UID"],
        modality=text(dataset, 0x00080060),
        frame_of_reference_uid=text(dataset, 0x00200052),
        image_type=texts(dataset, 0x00080008),
        body_part=text(dataset, 0x00180015) or _anatomic_region(dataset, shared),
        study_description=text(dataset, 0x00081030),
        series_description=text(dataset, 0x0008103E),
        protocol_name=text(dataset, 0x00181030),
        contrast_agent=_contrast_agent(dataset, shared),
        contrast_route=text(dataset, _CONTRAST_ROUTE) or _contrast_routes(dataset),
        contrast_volume=text(dataset, 0x00181041),
        multi_energy=text(dataset, 0x00189361).upper() == "YES",
        temporal_position=integer(dataset, 0x00200100),
        kvp=number(dataset, 0x00180060),
        acquisition_time=text(dataset, 0x00080032),
        convolution_kernel=text(dataset, 0x00181210),
        series_number=integer(dataset, 0x00200011),
        instance_number=integer(dataset, 0x00200013),
        acquisition_number=integer(dataset, 0x00200012),
        rows=unsigned(dataset, 0x00280010),
        columns=unsigned(dataset, 0x00280011),
        frames=max(1, integer(dataset, 0x00280008) or 1),
        position_lps=position_of(dataset),
        orientation=orientation_of(dataset) or orientation_of(group_of(shared, PLANE_ORIENTATION)),
        pixel_spacing_mm=spacing_of(dataset) or spacing_of(group_of(shared, PIXEL_MEASURES)),
        slice_thickness_mm=_thickness(dataset, shared),
        instances_in_series=integer(dataset, 0x00201209),
        scanner=" ".join(filter(None, (text(dataset, 0x00080070), text(dataset, 0x00081090))))[:160],
        accession_hash="" if search_key is None else identifier_hash(search_key, text(dataset, 0x00080050)),
        patient_id_hash="" if search_key is None else identifier_hash(search_key, text(dataset, 0x00100020)),
    )


def group_of(groups: Dataset | None, tag: int) -> Dataset | None:
    """First item of one functional group macro (PS3.3 C.7.6.16.2) inside a shared or per-frame item."""
    return None if groups is None else next(iter(sequence(groups, tag)), None)


def position_of(dataset: Dataset | None) -> tuple[float, float, float] | None:
    """Image Position (Patient) (0020,0032), LPS mm."""
    values = None if dataset is None else numbers(dataset, 0x00200032, 3)
    return None if values is None else (values[0], values[1], values[2])


def orientation_of(dataset: Dataset | None) -> tuple[float, float, float, float, float, float] | None:
    """Image Orientation (Patient) (0020,0037)."""
    values = None if dataset is None else numbers(dataset, 0x00200037, 6)
    return None if values is None else (values[0], values[1], values[2], values[3], values[4], values[5])


def spacing_of(dataset: Dataset | None) -> tuple[float, float] | None:
    """Pixel Spacing (0028,0030): mm between rows, between columns; None unless both are positive."""
    values = None if dataset is None else numbers(dataset, 0x00280030, 2)
    return (values[0], values[1]) if values is not None and min(values) > 0 else None


def _thickness(dataset: Dataset, shared: Dataset | None) -> float | None:
    measures = group_of(shared, PIXEL_MEASURES)
    own = number(dataset, 0x00180050)
    return own if own is not None or measures is None else number(measures, 0x00180050)


def _anatomic_region(dataset: Dataset, shared: Dataset | None) -> str:
    anatomy = group_of(shared, _FRAME_ANATOMY)
    return _meaning(dataset, _ANATOMIC_REGION) or ("" if anatomy is None else _meaning(anatomy, _ANATOMIC_REGION))


def _contrast_agent(dataset: Dataset, shared: Dataset | None) -> str:
    """Contrast/Bolus Agent, or the meanings of its codes; "NO" where Contrast/Bolus Usage (PS3.3 C.7.6.16.2.12) denies each."""
    usage = [] if shared is None else sequence(shared, _CONTRAST_USAGE)
    if usage and all(text(item, _ADMINISTERED).upper() == "NO" for item in usage):
        return "NO"
    return text(dataset, _CONTRAST_AGENT) or _meaning(dataset, _CONTRAST_AGENT_SEQUENCE)


def _contrast_routes(dataset: Dataset) -> str:
    """Meanings of Contrast/Bolus Administration Route, which is at the top level or inside of each agent (PS3.3 C.7.6.4b)."""
    agents = sequence(dataset, _CONTRAST_AGENT_SEQUENCE)
    meanings = [_meaning(item, _CONTRAST_ROUTE_SEQUENCE) for item in (dataset, *agents)]
    return ", ".join(filter(None, meanings))


def _meaning(dataset: Dataset, tag: int) -> str:
    """Code meanings of a code sequence, joined by commas."""
    return ", ".join(filter(None, (text(item, _CODE_MEANING) for item in sequence(dataset, tag))))


@cache
def supported_transfer_syntaxes() -> tuple[str, ...]:
    """UIDs of the transfer syntaxes that the installed decoders decode, sorted."""
    return tuple(sorted(decoders()))
