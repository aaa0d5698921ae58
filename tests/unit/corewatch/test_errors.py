"""Errors carry the problem and the remedy apart, and survive the way between processes."""

from __future__ import annotations

import pickle

import pytest

from corewatch.errors import CorewatchError, NoAnswer, NotAnalysed, OperatorNeeded, RetryLater
from corewatch.reasons import Reason


@pytest.mark.parametrize(
    ("error", "problem", "remedy", "text"),
    [
        (OperatorNeeded("the disk is full", "make room"), "the disk is full", "make room", "the disk is full; make room"),
        (NoAnswer("no answer from 10.0.0.5"), "no answer from 10.0.0.5", "", "no answer from 10.0.0.5"),
        (RetryLater(), "", "", ""),
        (
            NotAnalysed(Reason.TOO_FEW_SLICES, "It has 3."),
            "The series has too few slices. It has 3.",
            "Send the whole series again.",
            "The series has too few slices. It has 3.",
        ),
        (
            NotAnalysed(Reason.NOT_CT),
            "The series is not a CT.",
            "Send the CT series; nothing else is analysed.",
            "The series is not a CT.",
        ),
    ],
)
def test_problem_and_remedy(error: CorewatchError, problem: str, remedy: str, text: str) -> None:
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (one.problem, one.remedy, str(one)) == (problem, remedy, text)
        assert type(one) is type(error)


def test_a_reason_is_kept_apart_from_its_detail() -> None:
    copy = pickle.loads(pickle.dumps(NotAnalysed(Reason.MIXED_SERIES, "It holds 2 series.")))
    assert (copy.reason, copy.detail) == (Reason.MIXED_SERIES, "It holds 2 series.")
