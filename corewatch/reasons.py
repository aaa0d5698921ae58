"""Reasons why a series is not analysed, in a radiographer's words.

The code (the enum's value) is stable: ledger, `result.json` and metrics contain it. Sentence and remedy are for people.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reasons for a case to end `not_analysed`."""

    NOT_CT = "not_ct"
    NOT_A_VOLUME = "not_a_volume"
    NOT_A_HEAD = "not_a_head"
    NO_CONTRAST = "no_contrast"
    NOT_AXIAL = "not_axial"
    EXCLUDED_BY_RULE = "excluded_by_rule"
    OWN_RESULT = "own_result"
    TOO_FEW_SLICES = "too_few_slices"
    TOO_LITTLE_COVERAGE = "too_little_coverage"
    SLICES_TOO_THICK = "slices_too_thick"
    MISSING_SLICES = "missing_slices"
    IRREGULAR_GEOMETRY = "irregular_geometry"
    MIXED_SERIES = "mixed_series"
    UNREADABLE = "unreadable"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    TOO_LARGE = "too_large"
    IMPLAUSIBLE_VALUES = "implausible_values"
    ALIGNMENT_NOT_TRUSTED = "alignment_not_trusted"
    WRONG_GRID = "wrong_grid"
    MODEL_MISSING = "model_missing"
    CONFLICTING_COPY = "conflicting_copy"
    CANCELLED = "cancelled"

    @property
    def sentence(self) -> str:
        """One sentence for people: what is wrong with the series."""
        return _SENTENCES[self]

    @property
    def remedy(self) -> str:
        """What a radiographer or PACS administrator can do, so that the series is analysed or no longer sent."""
        return _REMEDIES[self]


_SENTENCES = {
    Reason.NOT_CT: "The series is not a CT.",
    Reason.NOT_A_VOLUME: "The series is a localizer, projection, dose page or screen capture, not a stack of slices.",
    Reason.NOT_A_HEAD: "The series does not count as one of a head.",
    Reason.NO_CONTRAST: "The series shows no sign of contrast medium, so it is not a CT angiography.",
    Reason.NOT_AXIAL: "The slices are not axial.",
    Reason.EXCLUDED_BY_RULE: "A rule in the settings leaves this series out.",
    Reason.OWN_RESULT: "The series is a result of corewatch itself that the PACS sent back.",
    Reason.TOO_FEW_SLICES: "The series has too few slices.",
    Reason.TOO_LITTLE_COVERAGE: "The slices do not cover enough of the head.",
    Reason.SLICES_TOO_THICK: "The slices are too thick or too far apart.",
    Reason.MISSING_SLICES: "Slices are missing from the series.",
    Reason.IRREGULAR_GEOMETRY: "Position or orientation of the slices is missing or does not form one stack.",
    Reason.MIXED_SERIES: "The series holds more than one acquisition, phase, study or patient.",
    Reason.UNREADABLE: "The files could not be read as DICOM images.",
    Reason.UNSUPPORTED_ENCODING: "The images are compressed in a way that cannot be decoded here.",
    Reason.TOO_LARGE: "The series has more pixels than are analysed here.",
    Reason.IMPLAUSIBLE_VALUES: "The pixel values are not Hounsfield units of a head (no air or no brain found).",
    Reason.ALIGNMENT_NOT_TRUSTED: "The head could not be aligned reliably.",
    Reason.WRONG_GRID: "The NIfTI file is not on the network's grid (146 x 182 x 133 voxels of 1 mm, axes L-A-S).",
    Reason.MODEL_MISSING: "The model that should analyse the series is not installed or cannot be loaded.",
    Reason.CONFLICTING_COPY: "Images came again with the same UIDs but other content; the first ones were kept.",
    Reason.CANCELLED: "An operator cancelled the case.",
}

_AGAIN = "Send the whole series again"

_REMEDIES = {
    Reason.NOT_CT: "Send the CT series; nothing else is analysed.",
    Reason.NOT_A_VOLUME: "Send the series of axial slices itself.",
    Reason.NOT_A_HEAD: "Send the head. If it is one: name it in body part or series description, or change `series.rules`.",
    Reason.NO_CONTRAST: "If contrast medium was given: name it at the scanner or in the series description.",
    Reason.NOT_AXIAL: "Send the original axial series, not a reformat.",
    Reason.EXCLUDED_BY_RULE: "If it should be analysed: change `series.rules` in the settings.",
    Reason.OWN_RESULT: "Take results of corewatch out of the PACS's rule that sends series here.",
    Reason.TOO_FEW_SLICES: f"{_AGAIN}.",
    Reason.TOO_LITTLE_COVERAGE: "Send a series from the skull base to the vertex.",
    Reason.SLICES_TOO_THICK: "Send the thinnest reconstruction; 1 mm or less is best.",
    Reason.MISSING_SLICES: f"{_AGAIN}; if slices are missing at the scanner too, reconstruct it again.",
    Reason.IRREGULAR_GEOMETRY: "Send the scanner's own reconstruction, as it was before any software changed it.",
    Reason.MIXED_SERIES: "Send each acquisition and phase as a separate series.",
    Reason.UNREADABLE: f"{_AGAIN}, without compression if that is what fails.",
    Reason.UNSUPPORTED_ENCODING: "Let the PACS send it without compression, or as JPEG, JPEG-LS, JPEG 2000 or RLE.",
    Reason.TOO_LARGE: "Send a reconstruction of the head alone, with 512 x 512 pixels and slices of 0.5 mm or more.",
    Reason.IMPLAUSIBLE_VALUES: f"{_AGAIN}; if that does not help, send the scanner's own reconstruction.",
    Reason.ALIGNMENT_NOT_TRUSTED: "Correct a patient position that was entered wrongly and send the series again.",
    Reason.WRONG_GRID: "Send the DICOM series instead of the NIfTI file.",
    Reason.MODEL_MISSING: "Install the model with `corewatch model install`, or name another one in the settings.",
    Reason.CONFLICTING_COPY: "Look in the PACS which of the two is right, and send that series again under new UIDs.",
    Reason.CANCELLED: "`corewatch cases retry` starts it again.",
}
