"""Fixtures that every suite shares."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from tests.support.postgres import Postgres, find_binaries

# How long an example takes says more about the machine than about the code. The same examples in every run: whether a change passes
# is no matter of luck. To look for new ones: --hypothesis-profile explore; a failure prints how to repeat it.
hypothesis.settings.register_profile("corewatch", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile("corewatch")

SHARED = (Path(__file__).resolve().parents[1] / ".." / "shared").resolve()
REQUIRE_SERVERS = os.environ.get("COREWATCH_TESTS_REQUIRE_SERVERS") == "1"
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test that starts a program in this process sets up its logging; the next test finds none of that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data that lies beside a checkout; tests that need it skip where it is absent."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("the shared reference data is not here")
    return SHARED


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Path of a program that a test needs. Where it is missing the test skips, or fails when servers are required."""

    def find(name: str) -> str:
        path = shutil.which(name, path=_PATH)
        if path is None:
            message = f"{name} is not installed; see scripts/install-test-tools.sh"
            pytest.fail(message) if REQUIRE_SERVERS else pytest.skip(message)
        return path

    return find


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server, started when the first test asks for it."""
    binaries = find_binaries()
    if binaries is None:
        message = "PostgreSQL is not installed; see scripts/install-test-tools.sh"
        pytest.fail(message) if REQUIRE_SERVERS else pytest.skip(message)
    server = Postgres(binaries, tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()
