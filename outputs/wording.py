"""The words for a finding, the same on every page, in every DICOM object and in every mail. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from corewatch.cautions import ESTIMATE_DOES_NOT_HOLD, voiding
from corewatch.findings import Finding, ModelIdentity, Side
from corewatch.volumes import AlignmentQuality
from outputs.case import ReportedCase

PRODUCT = "corewatch"

_SIDES = {Side.LEFT: "patient's LEFT", Side.RIGHT: "patient's RIGHT", Side.NONE: "no clear side"}


def number_ml(value: float, alert_ml: float) -> str:
    """A volume in mL with as few digits as are meaningful, never rounded across the alert threshold `alert_ml`.

    19.7 mL below a threshold of 20 mL reads "19.7", not "20": a page that says "20 mL, no alert at 20 mL" is not believed.
    """
    for digits in (0 if value >= 10 else 1, 1, 2, 3, 6):
        text = f"{value:.{digits}f}"
        if (float(text) >= alert_ml) == (value >= alert_ml):
            return text
    return repr(value)


def volume(finding: Finding) -> str:
    """Estimated volume with its unit."""
    return f"{number_ml(finding.core_ml, finding.alert_ml)} mL"


def interval(finding: Finding) -> str | None:
    """The placement range (10-90 % under small displacements of the head) with its unit; None where the spread was switched off."""
    if finding.core_ml_interval is None:
        return None
    low, high = (number_ml(value, finding.alert_ml) for value in finding.core_ml_interval)
    return f"{low} to {high} mL"


def own_error(finding: Finding) -> str | None:
    """The model's own error with its unit; None where it is not known."""
    return None if finding.model_rmse_ml is None else f"{finding.model_rmse_ml:g} mL"


def ranges(finding: Finding) -> str:
    """The placement range and the model's own error, in one line."""
    span, error = interval(finding), own_error(finding)
    first = "placement range not computed" if span is None else f"placement range {span}"
    return first if error is None else f"{first}; model's own error (RMS) {error}"


def threshold(finding: Finding) -> str:
    """The alert threshold with its unit."""
    return f"{finding.alert_ml:g} mL"


def side(finding: Finding) -> str:
    """Side in words: the patient's left or right."""
    return side_words(finding.side)


def side_words(side: Side) -> str:
    """The words for a side: the patient's left or right."""
    return _SIDES[side]


def verdict(finding: Finding) -> str:
    """Alert or not, with the threshold."""
    if finding.alert:
        return f"ALERT: core at or above {threshold(finding)}"
    return f"No alert: core below {threshold(finding)}"


def instability(finding: Finding) -> str | None:
    """Why a finding is unstable; None for a stable one."""
    if not finding.unstable:
        return None
    ends = finding.core_ml_interval
    if ends is not None and all((end >= finding.alert_ml) != finding.alert for end in ends):
        return f"UNSTABLE: the placement range lies beyond {threshold(finding)}"
    return f"UNSTABLE: the placement range crosses {threshold(finding)}"


def warnings(case: ReportedCase) -> tuple[str, ...]:
    """Lines that go above the figures of a finding: its cautions but for the one in the headline, and its instability."""
    finding = case.result.finding
    if finding is None:
        return ()
    void = voiding(case.result.cautions)
    titles = [f"CAUTION: {one.title}" for one in case.result.cautions if one != void]
    unstable = instability(finding) if void is None else None
    return tuple(titles if unstable is None else [unstable, *titles])


def model(identity: ModelIdentity) -> str:
    """Name, version and the first 8 digits of the digest."""
    return f"{identity.name} {identity.version} ({identity.sha256[:8]})"


def model_for_readers(identity: ModelIdentity) -> str:
    """`model`, with a warning where it was never trained on patients."""
    return model(identity) + ("  DEMONSTRATION, not trained on patients" if identity.demonstration else "")


def alignment(quality: AlignmentQuality | None) -> str:
    """Quality of the alignment: score 0-1, and the offset left at the midline in mm and degrees."""
    if quality is None:
        return "supplied aligned, not checked"
    return f"quality {quality.score:.2f}; midline off by {abs(quality.midline_mm):.1f} mm, {abs(quality.midline_degrees):.1f}°"


def notes(lines: Sequence[str]) -> str | None:
    """The first note about the series, and the number of further ones; None without notes."""
    if not lines:
        return None
    return lines[0] + (f" ({len(lines) - 1} more in result.json)" if len(lines) > 1 else "")


def moment(value: datetime) -> str:
    """Date, time and zone."""
    offset = value.strftime("%z")
    zone = "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:5]}"
    return f"{value:%Y-%m-%d %H:%M:%S} {zone}"


def revision(case: ReportedCase) -> str:
    """The revision of the series' result, and the one that it replaces."""
    return "revision 1" if case.revision == 1 else f"revision {case.revision}, replaces {case.revision - 1}"


def headline(case: ReportedCase) -> str:
    """One line for a subject or a title, free of patient data."""
    finding = case.result.finding
    if case.failed:
        return "FAILED"
    if finding is None:
        return "not analysed"
    lead = "ALERT" if finding.alert else "no alert"
    void = voiding(case.result.cautions)
    if void is not None:
        return f"{lead}: {void.title} {ESTIMATE_DOES_NOT_HOLD}" if finding.alert else f"{void.title} {ESTIMATE_DOES_NOT_HOLD}"
    where = "side unclear" if finding.side is Side.NONE else str(finding.side)
    return f"{lead} core {volume(finding)} {where}" + (", unstable" if finding.unstable else "")
