"""Vendored browser files are those of the registry, with their licence, and no page of the portal names another host."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from scripts.vendor import PACKAGES, Package

ROOT = Path(__file__).resolve().parents[3]
PORTAL = ROOT / "portal"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_files_are_those_of_the_registry(package: Package) -> None:
    folder = package.folder / f"{package.name}-{package.version}"
    facts = json.loads((folder / "vendor.json").read_text())
    assert (facts["npm"], facts["version"], facts["licence"]) == (package.npm, package.version, package.licence)
    assert set(facts["sha256"]) == {Path(path).name for path in package.files}
    for name, digest in facts["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, f"{name} differs from the package"
    assert (folder / "LICENSE").stat().st_size > 300
    assert {path.name for path in folder.iterdir()} == {"LICENSE", "vendor.json", *facts["sha256"]}


def test_only_listed_folders_are_vendored() -> None:
    listed = {f"{package.name}-{package.version}" for package in PACKAGES}
    for folder in {package.folder for package in PACKAGES}:
        assert {path.name for path in folder.iterdir() if path.name != "__pycache__"} <= listed


def _own_files() -> list[Path]:
    kinds = {".html", ".css", ".js", ".svg"}
    return sorted(path for path in PORTAL.rglob("*") if path.suffix in kinds and "vendor" not in path.parts)


@pytest.mark.parametrize("path", _own_files(), ids=lambda path: path.name)
def test_no_page_names_another_host(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"""(?:https?:)?//[A-Za-z0-9-]+\.[A-Za-z]|["'(]//[A-Za-z]""", text)


@pytest.mark.parametrize("path", [p for p in _own_files() if p.suffix == ".html"], ids=lambda path: path.name)
def test_no_page_has_inline_script_or_style(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", text)
    assert not re.search(r"""\sstyle\s*=|\son[a-z]+\s*=|javascript:""", text)
    if "{{ style | safe }}" not in text:  # the page behind a mail's link allows its one sheet by its digest
        assert "<style" not in text
