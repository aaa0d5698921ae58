"""The project's language: plain present-day technical English, without the words of a private dialect."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).relative_to(ROOT)

BANNED = {
    r"\banew\b": "again",
    r"\bwhoever\b": "the person or program that ...",
    r"\bfor so long\b|\bso often\b|\bso many\b": "the number, or: this long, this often, this many",
    r"\bof ours\b|\bof theirs\b": "our, their",
    r"\bno more\b(?! than)": "no longer, not",
    r"\bnot (?:\w+ )?any more\b": "no longer",
    r"\b(?:is|are|was|were|be|being) told\b": "logged, mailed, reported, shown",
    r"\bstands? in (?!for\b)": "is recorded in, is in",
    r"\bhas it that\b|\blest\b|\bsave for\b|\bhitherto\b|\bthereof\b": "plain words",
}
"""Pattern -> what to write instead."""

ALLOWED: dict[tuple[str, str], str] = {}
"""(File, line as it is without indentation) -> why the words are right there."""


def files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.html", "*.txt", "*.yaml", "*.yml"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [Path(name) for name in listed.stdout.splitlines() if not name.startswith("requirements/") and Path(name) != HERE]


@pytest.mark.parametrize("pattern", BANNED, ids=BANNED.values())
def test_the_words_of_the_dialect_do_not_occur(pattern: str) -> None:
    found = []
    for path in files():
        if not (ROOT / path).exists():
            continue
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line, flags=re.IGNORECASE) and (str(path), line.strip()) not in ALLOWED:
                found.append(f"{path}:{number}: {line.strip()}")
    assert found == [], f"write instead: {BANNED[pattern]}"


def test_exceptions_are_used() -> None:
    for (name, line), reason in ALLOWED.items():
        assert reason
        assert line in {text.strip() for text in (ROOT / name).read_text(encoding="utf-8").splitlines()}, name
