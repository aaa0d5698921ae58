"""The ledger on SQLite and on PostgreSQL; and series from real scanners."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.store import Ledger
from tests.support.ledger import Clock
from tests.support.postgres import Postgres

_names = itertools.count()


@pytest.fixture(scope="session")
def scanners(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Series from real scanners."""
    folder = tmp_path_factory.mktemp("scanners")
    with tarfile.open(shared / "data" / "dcm_qa_ct.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database(f"ledger{next(_names)}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(url, clock)
    yield ledger
    ledger.close()
