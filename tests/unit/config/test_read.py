"""No setting is there for show: a program reads each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from config.reference import _inner
from config.section import Section
from config.series import SeriesRule
from config.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ("cli", "config", "conversion", "daemon", "dicom_listener", "jobs", "ledger", "outputs", "portal", "worker")
FILES = [path for folder in PROGRAMS for path in (ROOT / folder).rglob("*.py") if path != ROOT / "config" / "reference.py"]
READ = {
    node.attr for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
}  # names of all attributes that are looked up anywhere


def sections(section: type[Section] = Section) -> set[type[Section]]:
    """All sections there are; importing `Settings` has defined them."""
    below = set(section.__subclasses__())
    return below.union(*map(sections, below)) if below else below


SECTIONS = sorted(
    (s for s in sections() if s is not SeriesRule and s.__module__.startswith("config.")), key=lambda s: s.__name__
)  # a SeriesRule becomes a Rule of the domain as a whole


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.__name__)
def test_every_key_is_read(section: type[Section]) -> None:
    assert set(section.model_fields) - READ == set()


def test_all_sections_are_looked_at() -> None:
    """Every one that the settings hold, however deep."""

    def held(section: type[Section]) -> set[type[Section]]:
        inner = {found for field in section.model_fields.values() if (found := _inner(field.annotation)) is not None}
        return inner.union(*map(held, inner)) if inner else inner

    assert held(Settings) - {SeriesRule} <= set(SECTIONS)
