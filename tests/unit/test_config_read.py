"""No setting is there for show: a program reads each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import config.settings
from config.section import Section
from config.series import SeriesRule

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("cli", "config", "conversion", "daemon", "dicom_listener", "jobs", "ledger", "outputs", "worker")
FILES = [path for folder in PROGRAMS for path in (ROOT / folder).rglob("*.py") if path != ROOT / "config" / "reference.py"]
READ = {
    node.attr for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
}  # names of all attributes that are looked up anywhere
SECTIONS = [
    section
    for section in vars(config.settings).values()
    if isinstance(section, type) and issubclass(section, Section) and section not in (Section, SeriesRule)
]  # a SeriesRule becomes a Rule of the domain as a whole


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.__name__)
def test_every_key_is_read(section: type[Section]) -> None:
    assert set(section.model_fields) - READ == set()
