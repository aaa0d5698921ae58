"""Series selection: decides from headers whether a series is a CTA of the head.

A series that is no stack of CT slices is rejected first. Then the rules of the settings are tried in order; the first one that
matches decides. Where none matches, the answer names the condition that failed in the rule that came closest.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from corewatch.dicom_uids import CT_SOP_CLASSES, STORAGE_ROOT
from corewatch.identity import RESULT_SERIES
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.slice_stack import SliceStack, degrees_from_axial, find_stack

MAX_TEXT: Final = 256
"""Characters of a header text that are searched: senders are not trusted, and the site's patterns may be slow on long texts."""

MAX_DEGREES_FROM_AXIAL: Final = 45.0
"""Largest angle between normal and LPS z of an axial stack, in degrees. Gantry tilts stay below 30 degrees."""

_LENGTH_TOLERANCE: Final = 1e-3  # mm; 40 steps of 2.5 mm must count as 100 mm


@dataclass(frozen=True, slots=True)
class Rule:
    """Which series are analysed; see `config.series.SeriesRule` for what each field means to a user.

    Patterns are regular expressions; an empty one matches everything, or excludes nothing. Lengths in mm.
    """

    name: str
    include: bool = True
    text: str = ""
    elsewhere_text: str = ""
    not_text: str = ""
    not_kernel: str = ""
    contrast: bool = False
    contrast_text: str = ""
    native_text: str = ""
    min_slices: int = 1
    min_coverage_mm: float = 0.0
    max_slice_step_mm: float = float("inf")
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """The series is analysed: by which rule, and with which model (None: the settings' default)."""

    rule_name: str
    model: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The series is not analysed. `detail` says what was found, free of patient data."""

    reason: Reason
    detail: str


def select(instances: Sequence[Instance], rules: Iterable[Rule]) -> Selected | Rejected:
    """Decide whether a complete series is analysed.

    Parameters
    ----------
    instances
        Every SOP instance of the series once, in any order.
    rules
        In the order of the settings.
    """
    unfit = _unfit(instances)
    if unfit is not None:
        return unfit
    facts = _Facts.of([i for i in instances if not_a_slice(i) is None])
    closest: tuple[int, Rejected] | None = None
    for rule in rules:
        passed, failure = _try(rule, facts)
        if failure is None:
            if rule.include:
                return Selected(rule.name, rule.model)
            return Rejected(Reason.EXCLUDED_BY_RULE, f"The rule is called {rule.name}.")
        if rule.include and (closest is None or passed > closest[0]):
            closest = (passed, failure)
    return Rejected(Reason.EXCLUDED_BY_RULE, "No rule includes it.") if closest is None else closest[1]


# series that are no stack of CT slices -------------------------------------------------------------------------------------------

_NOT_IMAGES: Final = {
    "7": "It is a secondary capture.",
    "9": "It holds waveforms.",
    "11": "It is a presentation state.",
    "66": "It holds raw or derived data, not images.",
    "67": "It holds real world values, not images.",
    "78": "It holds measurements, not images.",
    "88": "It is a structured report.",
    "104": "It is a document.",
    "481": "It belongs to radiotherapy.",
}
"""Families of storage SOP classes without scanner images, by the first component after the common root."""

_IMAGE_TYPES: Final = {
    "LOCALIZER": "It is a localizer.",
    "TOPO": "It is a localizer.",
    "SCOUT": "It is a localizer.",
    "PROJECTION": "It is a projection.",
    "MIP": "It is a projection.",
    "MINIP": "It is a projection.",
    "MAX IP": "It is a projection.",
    "MIN IP": "It is a projection.",
    "MAXIMUM": "It is a projection.",
    "MINIMUM": "It is a projection.",
    "PERFUSION": "It is a perfusion study or map.",
    "RCBF": "It is a perfusion map.",
    "RCBV": "It is a perfusion map.",
    "CBF": "It is a perfusion map.",
    "CBV": "It is a perfusion map.",
    "MTT": "It is a perfusion map.",
    "TTP": "It is a perfusion map.",
    "TMAX": "It is a perfusion map.",
    "VOLUME RENDERING": "It is a rendering.",
    "VOLUME RENDERED": "It is a rendering.",
    "SURFACE RENDERING": "It is a rendering.",
    "VRT": "It is a rendering.",
    "SSD": "It is a rendering.",
    "SCREEN SAVE": "It is a screen capture.",
    "SECONDARY CAPTURE": "It is a secondary capture.",
    "DOSE": "It is a dose page.",
    "PATIENT PROTOCOL": "It is a protocol page.",
    "BLACK IMAGE": "It is a page without an image.",
    "REPORT": "It is a report page.",
}
"""Words of Image Type (0008,0008), from value 3 on, of instances that are no slices (PS3.3 C.8.2.1.1.1, C.8.16.1 and the
manufacturers' conformance statements)."""

_IMAGE_TYPE_WORDS: Final = re.compile(r"(?<![A-Z])(" + "|".join(_IMAGE_TYPES) + r")(?![A-Z])")


def _unfit(instances: Sequence[Instance]) -> Rejected | None:
    """Why the series is no stack of CT slices. The majority decides: one localizer among the slices does not matter."""
    if not instances:
        return Rejected(Reason.NOT_A_VOLUME, "It has no images.")
    problems = Counter(problem for i in instances if (problem := not_a_slice(i)) is not None)
    if problems.total() * 2 <= len(instances):
        return None
    return max(problems, key=lambda p: (problems[p], str(p.reason), p.detail))


def not_a_slice(instance: Instance) -> Rejected | None:
    """Why this instance is no slice of a CT stack; None where it can be one."""
    family = instance.sop_class_uid.removeprefix(STORAGE_ROOT).split(".")[0]
    if instance.sop_class_uid not in CT_SOP_CLASSES and instance.series_description.startswith(RESULT_SERIES):
        return Rejected(Reason.OWN_RESULT, "")
    if instance.sop_class_uid.startswith(STORAGE_ROOT) and family in _NOT_IMAGES:
        return Rejected(Reason.NOT_A_VOLUME, _NOT_IMAGES[family])
    if instance.sop_class_uid not in CT_SOP_CLASSES or instance.modality.upper() not in {"CT", ""}:
        return Rejected(Reason.NOT_CT, "")
    kind = _IMAGE_TYPE_WORDS.search(" / ".join(v[:MAX_TEXT] for v in instance.image_type[2:]).upper().replace("_", " "))
    return None if kind is None else Rejected(Reason.NOT_A_VOLUME, _IMAGE_TYPES[kind.group(1)])


# conditions of a rule -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts of a series that the rules check. Each text is the one that most instances have."""

    body_part: str
    study: str
    series: str
    protocol: str
    agent: str
    kernel: str
    stack: SliceStack | None
    slices: int
    thickness_mm: float | None

    @classmethod
    def of(cls, instances: Sequence[Instance]) -> _Facts:
        def common(value: Callable[[Instance], str]) -> str:
            counted = Counter(value(i) for i in instances)
            return _plain(max(counted, key=lambda v: (counted[v], v)))

        frames = sum(i.frames for i in instances)
        stack = None if any(i.frames > 1 for i in instances) else find_stack(instances)
        return cls(
            body_part=common(lambda i: i.body_part),
            study=common(lambda i: i.study_description),
            series=common(lambda i: i.series_description),
            protocol=common(lambda i: i.protocol_name),
            agent=common(lambda i: i.contrast_agent),
            kernel=common(lambda i: i.convolution_kernel),
            stack=stack,
            slices=frames if stack is None else stack.slices,
            thickness_mm=min((i.slice_thickness_mm for i in instances if i.slice_thickness_mm), default=None),
        )


_NO_AGENT: Final = frozenset({"", "NONE", "NO", "N", "0", "NIL", "NATIVE", "NATIV", "WITHOUT", "UNKNOWN"})


def _head(rule: Rule, facts: _Facts) -> Rejected | None:
    own = (facts.body_part, facts.series)
    if not _found(rule.text, *own, facts.study, facts.protocol):
        return Rejected(Reason.NOT_A_HEAD, "")
    if rule.elsewhere_text and _found(rule.elsewhere_text, *own) and not _found(rule.text, *own):
        return Rejected(Reason.NOT_A_HEAD, "Body part or series description name another part of the body.")
    return None


def _wanted(rule: Rule, facts: _Facts) -> Rejected | None:
    if rule.not_text and _found(rule.not_text, facts.series):
        return Rejected(Reason.EXCLUDED_BY_RULE, "Its description names a kind of series that is not analysed.")
    if rule.not_kernel and _found(rule.not_kernel, facts.kernel):
        return Rejected(Reason.EXCLUDED_BY_RULE, "It is reconstructed with a sharp kernel, for bone or lung.")
    return None


def _contrast(rule: Rule, facts: _Facts) -> Rejected | None:
    if not rule.contrast:
        return None
    if rule.native_text and _found(rule.native_text, facts.series):
        return Rejected(Reason.NO_CONTRAST, "Its description says so.")
    if facts.agent.strip().upper() not in _NO_AGENT or _found(rule.contrast_text, facts.series):
        return None
    return Rejected(Reason.NO_CONTRAST, "The header names no contrast agent, and the description none either.")


def _axial(_rule: Rule, facts: _Facts) -> Rejected | None:
    if facts.stack is None:
        return None
    degrees = degrees_from_axial(facts.stack)
    if degrees > MAX_DEGREES_FROM_AXIAL:
        return Rejected(Reason.NOT_AXIAL, f"They are turned {degrees:.0f} degrees from axial.")
    return None


def _enough_slices(rule: Rule, facts: _Facts) -> Rejected | None:
    if facts.slices < rule.min_slices:
        return Rejected(Reason.TOO_FEW_SLICES, f"It has {facts.slices}; at least {rule.min_slices} are needed.")
    return None


def _fine(rule: Rule, facts: _Facts) -> Rejected | None:
    step = 0.0 if facts.stack is None else facts.stack.coarsest_mm
    widest = max(step, facts.thickness_mm or 0.0)
    if widest > rule.max_slice_step_mm + _LENGTH_TOLERANCE:
        return Rejected(
            Reason.SLICES_TOO_THICK, f"They measure {widest:.1f} mm; at most {rule.max_slice_step_mm:g} mm are allowed."
        )
    return None


def _covers(rule: Rule, facts: _Facts) -> Rejected | None:
    if facts.stack is None:
        return None
    if facts.stack.coverage_mm < rule.min_coverage_mm - _LENGTH_TOLERANCE:
        found, needed = facts.stack.coverage_mm, rule.min_coverage_mm
        return Rejected(Reason.TOO_LITTLE_COVERAGE, f"They cover {found:.0f} mm; at least {needed:g} mm are needed.")
    return None


_CONDITIONS: Final = (_head, _wanted, _contrast, _axial, _fine, _enough_slices, _covers)
"""In the order in which a person would ask. The number of conditions that a rule passes is how close it came."""


def _try(rule: Rule, facts: _Facts) -> tuple[int, Rejected | None]:
    for passed, condition in enumerate(_CONDITIONS):
        failure = condition(rule, facts)
        if failure is not None:
            return passed, failure
    return len(_CONDITIONS), None


def _found(pattern: str, *texts: str) -> bool:
    """Whether one of the texts matches the pattern; an empty pattern always matches."""
    compiled = _compiled(pattern)
    return any(compiled.search(t) for t in texts)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _plain(text: str) -> str:
    """At most `MAX_TEXT` characters, composed (NFC), with spaces for `_` and `^` so that word boundaries match."""
    return unicodedata.normalize("NFC", text[:MAX_TEXT]).replace("_", " ").replace("^", " ")
