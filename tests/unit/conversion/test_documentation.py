"""The limits in docs/conversion.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conversion import frames, hounsfield, series_checks, volume_grid
from conversion.problems import GRAVEST_FIRST
from corewatch import slice_stack

PAGE = Path(__file__).resolve().parents[3] / "docs" / "conversion.md"
NAMED = dict(re.findall(r"`([A-Z][A-Z_]+)` = ([\d.]+)", PAGE.read_text()))


@pytest.mark.parametrize("name", NAMED)
def test_a_limit_has_the_value_that_is_written(name: str) -> None:
    (value,) = {
        getattr(module, name) for module in (frames, hounsfield, series_checks, slice_stack, volume_grid) if hasattr(module, name)
    }
    assert float(NAMED[name]) == value


def test_the_limits_are_found() -> None:
    assert len(NAMED) >= 12


def test_every_reason_of_a_check_is_named() -> None:
    table = PAGE.read_text().split("## What is done")[0]
    assert set(re.findall(r"`([a-z_]+)`", table.split("|---|---|---|")[1])) == {str(reason) for reason in GRAVEST_FIRST}
