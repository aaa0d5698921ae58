"""Fixtures that every suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = (Path(__file__).resolve().parents[1] / ".." / "shared").resolve()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data that lies beside a checkout; tests that need it skip where it is absent."""
    if not (SHARED / "reference").is_dir():
        if os.environ.get("COREWATCH_TESTS_REQUIRE_SHARED") == "1":
            pytest.fail("the shared reference data is required here but absent")
        pytest.skip("the shared reference data is not here")
    return SHARED
