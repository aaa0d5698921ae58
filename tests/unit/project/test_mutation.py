"""The mutation script: its table names files that exist, and its mutants are real changes of the code alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.operators import mutants
from tests.mutation.targets import EQUIVALENTS, TARGETS

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("path", sorted({*TARGETS, *(test for tests in TARGETS.values() for test in tests)}))
def test_paths_of_the_table_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_module_of_the_domain_is_a_target() -> None:
    constants = {"__init__.py", "clock.py", "destinations.py", "dicom_uids.py", "units.py"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "corewatch").glob("*.py") if path.name not in constants}
    assert modules <= set(TARGETS)


def test_equivalents_give_a_reason() -> None:
    assert all(one.reason and one.line for one in EQUIVALENTS)


SOURCE = b'''"""A docstring with 5 numbers."""
LIMIT: int = 5
def f(a: int = 3, *, b: bool = True) -> bool:
    """Docstring."""
    if a > LIMIT:
        return False
    log.info("message", number=7)
    items.append(a)
    return not a and b or g(f"{a + 1}", key=b)
'''


def test_mutants() -> None:
    found = {(one.line, one.kind, one.diff(SOURCE)[1]) for one in mutants("f.py", SOURCE)}
    assert found == {
        (2, "number", "LIMIT: int = 6"),
        (2, "number", "LIMIT: int = (4)"),
        (3, "number", "def f(a: int = 4, *, b: bool = True) -> bool:"),
        (3, "number", "def f(a: int = (2), *, b: bool = True) -> bool:"),
        (3, "Boolean", "def f(a: int = 3, *, b: bool = False) -> bool:"),
        (5, "guard dropped", "pass"),
        (5, "comparison", "if (a >= LIMIT):"),
        (5, "comparison", "if (a <= LIMIT):"),
        (6, "Boolean", "return True"),
        (8, "statement dropped", "pass"),
        (9, "and/or", "return ((not a and b) and g(f'{a + 1}', key=b))"),
        (9, "and/or", 'return (not a or b) or g(f"{a + 1}", key=b)'),
        (9, "condition dropped", "return (not a and b)"),
        (9, "condition dropped", "return (g(f'{a + 1}', key=b))"),
        (9, "condition dropped", 'return (not a) or g(f"{a + 1}", key=b)'),
        (9, "condition dropped", 'return (b) or g(f"{a + 1}", key=b)'),
        (9, "not dropped", 'return (a) and b or g(f"{a + 1}", key=b)'),
        (9, "argument dropped", "return not a and b or (g(f'{a + 1}'))"),
    }


@pytest.mark.parametrize("path", sorted(path for path in TARGETS if path.endswith(".py")))
def test_every_mutant_is_a_program(path: str) -> None:
    source = (ROOT / path).read_bytes()
    for mutant in mutants(path, source)[::5]:
        changed = mutant.apply(source)
        assert changed != source
        ast.parse(changed)
