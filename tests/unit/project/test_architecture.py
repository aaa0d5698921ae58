"""The folders are layers: imports point down, siblings never meet, and the names that we import are ours."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LAYERS = {
    "corewatch": 0,
    "foundation": 1,
    "config": 2,
    "ledger": 2,
    "jobs": 2,
    "conversion": 2,
    "outputs": 2,
    "phantom": 2,
    "dicom_listener": 3,
    "daemon": 3,
    "worker": 3,
    "portal": 3,
    "cli": 4,
}
ALLOWED_SIBLINGS = {"outputs": "config.delivery"}
"""Who may read which module of a sibling."""
MOST_LINES = 400
FILES = [p for package in LAYERS for p in sorted((ROOT / package).rglob("*.py"))]
OTHERS = [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """Top-level names that a file imports anywhere in it, lazily too."""
    return (module.split(".")[0] for module in imported_modules(path))


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = package_of(path)
    for module in imported_modules(path):
        name = module.split(".")[0]
        if name in LAYERS and name != here and module != ALLOWED_SIBLINGS.get(here):
            assert LAYERS[name] < LAYERS[here], f"{here} must not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_tensorflow_lives_in_the_worker(path: Path) -> None:
    if package_of(path) != "worker":
        assert not {"tensorflow", "keras"} & set(imported(path))


def test_the_domain_knows_no_input_or_output() -> None:
    forbidden = {"os", "socket", "subprocess", "pydicom", "pynetdicom", "sqlalchemy", "celery", "nibabel", "PIL", "time", "asyncio"}
    for path in (ROOT / "corewatch").rglob("*.py"):
        assert not forbidden & set(imported(path)), path


@pytest.mark.parametrize("path", [*FILES, *OTHERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_every_folder_with_code_is_in_the_distribution() -> None:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in include} == set(LAYERS)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_import_names_are_ours(name: str) -> None:
    """Another distribution (python-daemon) also owns the name `daemon`; installed beside us it would be imported instead."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


def test_submitting_work_needs_neither_tensorflow_nor_the_workers() -> None:
    program = "import sys, daemon.program, jobs.app; print([m for m in sys.modules if m in {'tensorflow', 'worker', 'outputs'}])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


WITH_TENSORFLOW = {"worker.models.deepsymnet", "worker.training.network", "worker.training.phantom_demo"}


def test_importing_anything_but_the_network_does_not_load_tensorflow() -> None:
    """The worker's parent process forks: TensorFlow must not have started in it. No other program has a use for it."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
    assert modules >= WITH_TENSORFLOW
    others = sorted(name for name in modules - WITH_TENSORFLOW if not name.endswith("__main__"))
    program = (
        "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras')])"
    )
    done = subprocess.run([sys.executable, "-c", program, *others], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
