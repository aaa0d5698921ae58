"""What the documentation names is there: files, settings, commands, reasons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from cli.main import SECTIONS
from config.settings import Settings, WorkSettings
from corewatch.reasons import Reason

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HAND_WRITTEN = [page for page in PAGES if page.name != "settings.md"]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {
    "data",
    "demo",
    "inbox",
    "results",
}


def quoted(page: Path) -> list[str]:
    """Words in backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda p: p.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = [word.strip("*") for word in quoted(page) if word.split("/")[0] in FOLDERS and "/" in word and " " not in word]
    missing = [name for name in named if "*" not in name and "<" not in name and not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda p: p.name)
def test_modules_that_are_named_without_their_folder_exist(page: Path) -> None:
    known = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert [word for word in quoted(page) if re.fullmatch(r"\w+\.py", word) and word not in known] == []


def slug(heading: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_anchors_of_links_exist(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^):#]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / target if target else page).read_text()
        assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)}, f"{target}#{anchor}"


def test_the_architecture_names_every_folder() -> None:
    named = set(quoted(ROOT / "docs" / "architecture.md"))
    code = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert code <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        found.add(prefix + (field.alias or name))
        for inner in sections(field.annotation):
            found |= keys(inner, f"{prefix}{field.alias or name}.")
    return found


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections in a type, also within lists and where null may stand instead."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in sections(part)]


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda p: p.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = keys(Settings)
    known |= {"work.*_limit_s"} if any(k.endswith("_limit_s") for k in WorkSettings.model_fields) else set()
    first = "|".join(Settings.model_fields)
    named = {word for word in quoted(page) if re.fullmatch(rf"({first})(\.[a-z_*]+)+", word)}
    files = {word for word in named if (ROOT / word).exists()}
    assert named - files - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_are_named_exist(page: Path) -> None:
    commands = {name for section in SECTIONS.values() for name in section}
    named = set(re.findall(r"(?:`|bin/|^)corewatch ([a-z]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= commands


def glossary() -> list[tuple[str, str, str]]:
    """Word, file and name of each row of the glossary; the name is empty where a row names a file alone."""
    rows = re.findall(
        r"^\| ([^|]+) \|.*\| `([^`]+)`(?:: `(\w+)`)? \|$", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE
    )
    return [(word.strip(), file, name) for word, file, name in rows]


def test_every_row_of_the_glossary_names_its_code() -> None:
    rows = re.findall(r"^\| .*", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    heads = [row for row in rows if row.startswith("| word ")]
    assert len(glossary()) == len(rows) - len(heads)
    words = [word for word, _, _ in glossary()]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(("word", "file", "name"), glossary(), ids=[word for word, _, _ in glossary()])
def test_words_of_the_glossary_are_in_the_code(word: str, file: str, name: str) -> None:
    assert (ROOT / file).exists(), word
    if name:
        defined = rf"^\s*(?:(?:class|def) {name}\b|{name}\b.*=)"
        assert re.search(defined, (ROOT / file).read_text(), flags=re.MULTILINE), f"{file} defines no {name}"


def test_every_reason_is_in_the_table_with_its_sentence_and_its_remedy() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "operation.md").read_text(), flags=re.MULTILINE))
    assert rows == {str(reason): f"{reason.sentence} | {reason.remedy}" for reason in Reason}
