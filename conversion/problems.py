"""Problems of a series: each refuses it, with a reason. Notes, in contrast, are reported with the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a series: its reason, and the finding in words, free of patient data."""

    reason: Reason
    detail: str

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return self.reason.remedy


GRAVEST_FIRST: Final = (
    Reason.NOT_CT,
    Reason.NOT_A_VOLUME,
    Reason.UNREADABLE,
    Reason.UNSUPPORTED_ENCODING,
    Reason.TOO_LARGE,
    Reason.MIXED_SERIES,
    Reason.IRREGULAR_GEOMETRY,
    Reason.TOO_FEW_SLICES,
    Reason.MISSING_SLICES,
    Reason.TOO_LITTLE_COVERAGE,
    Reason.SLICES_TOO_THICK,
    Reason.IMPLAUSIBLE_VALUES,
)
"""Every reason that a check of the conversion gives, in the order in which they explain a failure."""


def gravest_first(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order in which they explain a failure."""
    return sorted(problems, key=lambda problem: GRAVEST_FIRST.index(problem.reason))


def raise_problems(problems: Iterable[Problem], notes: Sequence[str] = ()) -> None:
    """Raise `NotAnalysed` with the reason of the first problem, the details of all, and the notes; return where there is none.

    A further reason adds its sentence and remedy; sentence and remedy of the first are those of the error.
    """
    problems = list(problems)
    if not problems:
        return
    first = problems[0].reason
    details = [problem.detail for problem in problems if problem.reason is first]
    for reason in dict.fromkeys(problem.reason for problem in problems if problem.reason is not first):
        details += [reason.sentence, *(problem.detail for problem in problems if problem.reason is reason), reason.remedy]
    raise NotAnalysed(first, " ".join([*details, *notes]))
