"""Examples in the docstrings of pure modules run, and say what they show."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "corewatch.acquisition_runs",
    "corewatch.errors",
    "corewatch.findings",
    "corewatch.foldername",
    "corewatch.slice_stack",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
