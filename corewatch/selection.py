"""Series selection: decides from headers whether a series is a CTA of the head.

A series that is no stack of CT slices is rejected first. Then the rules of the settings are tried in order; the first one that
matches decides. Where none matches, the answer names the condition that failed in the rule that came closest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Final, TypeVar

from corewatch.computed_images import MULTI_ENERGY, WITHOUT_CONTRAST, Computed, computed_kind, page_of
from corewatch.contrast import Described, Sign, described, has_contrast, judge_administration
from corewatch.dicom_uids import CT_SOP_CLASSES, STORAGE_ROOT
from corewatch.header_text import MAX_TEXT as MAX_TEXT
from corewatch.header_text import folded, plain
from corewatch.identity import RESULT_SERIES
from corewatch.instance import Instance
from corewatch.reasons import Reason
from corewatch.slice_stack import SliceStack, degrees_from_axial, find_stack

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
    multi_energy: bool = False
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


def _unfit(instances: Sequence[Instance]) -> Rejected | None:
    """Why the series is no stack of CT slices. The majority decides: one localizer among the slices does not matter."""
    if not instances:
        return Rejected(Reason.NOT_A_VOLUME, "It has no images.")
    problems = Counter(problem for i in instances if (problem := not_a_slice(i)) is not None)
    if problems.total() * 2 <= len(instances):
        return None
    return max(problems, key=lambda p: (problems[p], str(p.reason), p.detail))


def is_ct_modality(modality: str) -> bool:
    """Whether Modality (0008,0060) does not contradict a CT SOP class: some archives drop it or change its case."""
    return modality.strip().upper() in {"CT", ""}


def not_a_slice(instance: Instance) -> Rejected | None:
    """Why this instance is no slice of a CT stack; None where it can be one."""
    family = instance.sop_class_uid.removeprefix(STORAGE_ROOT).split(".")[0]
    if instance.sop_class_uid not in CT_SOP_CLASSES and instance.series_description.startswith(RESULT_SERIES):
        return Rejected(Reason.OWN_RESULT, "")
    if instance.sop_class_uid.startswith(STORAGE_ROOT) and family in _NOT_IMAGES:
        return Rejected(Reason.NOT_A_VOLUME, _NOT_IMAGES[family])
    if instance.sop_class_uid not in CT_SOP_CLASSES or not is_ct_modality(instance.modality):
        return Rejected(Reason.NOT_CT, "")
    page = page_of(instance.image_type)
    return None if page is None else Rejected(Reason.NOT_A_VOLUME, page)


# conditions of a rule -----------------------------------------------------------------------------------------------------------


_Value = TypeVar("_Value", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Text:
    """A header text as it is and folded: a pattern may be written for either."""

    plain: str
    folded: str

    @classmethod
    def of(cls, text: str) -> _Text:
        return cls(plain(text), folded(text))


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts of a series that the rules check. Each text is the one that most instances have."""

    body_part: _Text
    study: _Text
    series: _Text
    protocol: _Text
    kernel: _Text
    administered: Sign
    computed: Computed | None
    stack: SliceStack | None
    slices: int
    thickness_mm: float | None

    @classmethod
    def of(cls, instances: Sequence[Instance]) -> _Facts:
        frames = sum(i.frames for i in instances)
        stack = None if any(i.frames > 1 for i in instances) else find_stack(instances)
        return cls(
            body_part=_Text.of(_common(instances, lambda i: i.body_part)),
            study=_Text.of(_common(instances, lambda i: i.study_description)),
            series=_Text.of(_common(instances, lambda i: i.series_description)),
            protocol=_Text.of(_common(instances, lambda i: i.protocol_name)),
            kernel=_Text.of(_common(instances, lambda i: i.convolution_kernel)),
            administered=judge_administration(
                *_common(instances, lambda i: (i.contrast_agent, i.contrast_route, i.contrast_volume))
            ),
            computed=_common_kind(instances),
            stack=stack,
            slices=frames if stack is None else stack.slices,
            thickness_mm=min((i.slice_thickness_mm for i in instances if i.slice_thickness_mm), default=None),
        )


def _common(instances: Sequence[Instance], value: Callable[[Instance], _Value]) -> _Value:
    """The value that most instances have; of several the last in order."""
    counted = Counter(value(i) for i in instances)
    return max(counted, key=lambda v: (counted[v], str(v)))


def _common_kind(instances: Sequence[Instance]) -> Computed | None:
    kinds: Counter[Computed | None] = Counter()
    for (image_type, multi_energy), count in Counter((i.image_type, i.multi_energy) for i in instances).items():
        kinds[computed_kind(image_type, multi_energy=multi_energy)] += count
    return max(kinds, key=lambda kind: (kinds[kind], str(kind)))


def _head(rule: Rule, facts: _Facts) -> Rejected | None:
    own = (facts.body_part, facts.series)
    if not _found(rule.text, *own, facts.study, facts.protocol):
        return Rejected(Reason.NOT_A_HEAD, "Body part, descriptions and protocol name no head.")
    if rule.elsewhere_text and _found(rule.elsewhere_text, *own) and not _found(rule.text, *own):
        return Rejected(Reason.NOT_A_HEAD, "Body part or series description name another part of the body.")
    return None


def _wanted(rule: Rule, facts: _Facts) -> Rejected | None:
    if rule.not_text and _found(rule.not_text, facts.series):
        return Rejected(Reason.EXCLUDED_BY_RULE, "Its description names a kind of series that is not analysed.")
    if rule.not_kernel and _found(rule.not_kernel, facts.kernel):
        return Rejected(Reason.EXCLUDED_BY_RULE, "It is reconstructed with a sharp kernel, for bone or lung.")
    return None


def _as_scanned(rule: Rule, facts: _Facts) -> Rejected | None:
    kind = facts.computed
    if kind is None or not rule.include or (rule.multi_energy and kind in MULTI_ENERGY):
        return None
    return Rejected(Reason.NO_CONTRAST if kind in WITHOUT_CONTRAST else Reason.EXCLUDED_BY_RULE, kind.value)


def _contrast(rule: Rule, facts: _Facts) -> Rejected | None:
    if not rule.contrast:
        return None
    given, finding = has_contrast(facts.administered, _described(rule, facts.series))
    return None if given else Rejected(Reason.NO_CONTRAST, finding)


def _described(rule: Rule, series: _Text) -> Described:
    patterns = _compiled(rule.native_text), _compiled(rule.contrast_text)
    found = [described(text, *patterns) for text in (series.plain, series.folded)]
    return Described(*(any(signs) for signs in zip(*map(astuple, found), strict=True)))


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


_CONDITIONS: Final = (_head, _as_scanned, _wanted, _contrast, _axial, _fine, _enough_slices, _covers)
"""In the order in which a person would ask. The number of conditions that a rule passes is how close it came."""


def _try(rule: Rule, facts: _Facts) -> tuple[int, Rejected | None]:
    for passed, condition in enumerate(_CONDITIONS):
        failure = condition(rule, facts)
        if failure is not None:
            return passed, failure
    return len(_CONDITIONS), None


def _found(pattern: str, *texts: _Text) -> bool:
    """Whether one of the texts matches the pattern; an empty pattern always matches."""
    compiled = _compiled(pattern)
    return any(compiled.search(text.plain) or compiled.search(text.folded) for text in texts)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
