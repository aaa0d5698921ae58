"""The systemd units: `verify` says nothing at all (it exits with 0 on unknown keys too), and each is well shut in."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.servers

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = sorted(p.name for p in UNITS.glob("corewatch-*.service"))
MOST_EXPOSED = 1.5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Path:
    """A root folder as after an installation: our units, the system's own, and the command."""
    tool("systemd-analyze")
    root = tmp_path_factory.mktemp("root")
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    target = root / "etc/systemd/system"
    target.mkdir(parents=True)
    for unit in UNITS.iterdir():
        if unit.suffix in {".service", ".target"}:
            shutil.copy(unit, target)
        elif unit.is_dir() and unit.suffix == ".d":
            shutil.copytree(unit, target / unit.name)
    command = root / "opt/corewatch/.venv/bin/corewatch"
    command.parent.mkdir(parents=True)
    shutil.copy("/bin/true", command)
    return root


def analyze(*arguments: str) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", [*SERVICES, "corewatch.target"])
def test_verify_is_silent(root: Path, unit: str) -> None:
    assert analyze("verify", f"--root={root}", unit) == ""


def test_verify_would_speak_up(root: Path, tmp_path: Path) -> None:
    unit = root / "etc/systemd/system/corewatch-typo.service"
    unit.write_text((UNITS / "corewatch-daemon.service").read_text().replace("TimeoutStopSec", "TimeoutStopSeconds"))
    try:
        assert "TimeoutStopSeconds" in analyze("verify", f"--root={root}", unit.name)
    finally:
        unit.unlink()


@pytest.mark.parametrize("unit", SERVICES)
def test_exposure(root: Path, unit: str) -> None:
    report = analyze("security", "--offline=yes", f"--root={root}", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found is not None, report
    assert float(found.group(1)) <= MOST_EXPOSED


def test_every_program_has_a_unit() -> None:
    started = {
        re.search(r"corewatch (\w+)( --queues (\w+))?", (UNITS / s).read_text().split("ExecStart=")[1]).groups()[::2]
        for s in SERVICES
    }
    assert started == {
        ("listen", None), ("watch", None), ("work", "prepare"), ("work", "detect"), ("work", "deliver"), ("flower", None),
        ("portal", None),
    }  # fmt: skip


def test_the_target_wants_every_service() -> None:
    wanted = re.findall(r"corewatch-\w+\.service", (UNITS / "corewatch.target").read_text())
    assert sorted(wanted) == [s for s in SERVICES if s != "corewatch-portal.service"], "the portal needs settings of its own"
