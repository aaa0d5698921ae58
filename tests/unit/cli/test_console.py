"""What comes from outside is text in every command: no markup, no emoji code, no control sequence of the terminal."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click import ClickException
from rich.table import Table
from rich.text import Text

import cli
from cli.case_tables import print_details, print_list
from cli.checks import Check
from cli.command_group import FailedProblem
from cli.commands.doctor import _print as print_checks
from cli.commands.up import addresses_of, format_addresses
from cli.console import PlainConsole
from config.settings import Settings
from corewatch.states import CaseState, DeliveryState
from ledger.cases import Case
from ledger.deliveries import Delivery
from tests.support.ledger import T0

FOREIGN = "[/x][bold]:smile:\x1b[31m\x07\u202eend"
SHOWN = "[/x][bold]:smile:\ufffd[31m\ufffd\ufffdend"
FOLDER = Path(cli.__file__).parent


def a_case() -> Case:
    absent = dict.fromkeys(Case.__dataclass_fields__)
    values = absent | {"case_id": "abc", "revision": 1, "state": CaseState.FAILED, "detail": FOREIGN, "created_at": T0}
    return Case(**cast(Any, values | {"last_stored_at": T0, "updated_at": T0, "model": FOREIGN, "series_uid": "1.2", "email": ()}))


def a_delivery() -> Delivery:
    absent = dict.fromkeys(Delivery.__dataclass_fields__)
    values = absent | {"case_id": "abc", "destination": FOREIGN, "state": DeliveryState.REFUSED, "attempts": 1, "detail": FOREIGN}
    return Delivery(**cast(Any, values))


def a_line() -> Any:
    return SimpleNamespace(at=T0, event="case.failed", detail={"why": FOREIGN})


def printed_by_up() -> None:
    print(format_addresses(replace(addresses_of(Settings()), ae_title=FOREIGN, watch_folders=(FOREIGN,)), as_json=False))


@pytest.mark.parametrize(
    "show",
    [
        lambda: print_list([a_case()], T0, 5),
        lambda: print_details(a_case(), [a_delivery()], [a_line()], Path("/nowhere")),
        lambda: print_checks([Check.error(FOREIGN, FOREIGN, FOREIGN), Check.ok(FOREIGN, FOREIGN)], Path(FOREIGN)),
        printed_by_up,
        lambda: PlainConsole().print(FOREIGN, Text(FOREIGN), style="bold"),
        lambda: PlainConsole().print(Table(FOREIGN, title=FOREIGN)),
    ],
    ids=["cases list", "cases show", "doctor", "up", "print", "table"],
)
def test_foreign_text_is_shown_as_it_is(show: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    show()
    shown = capsys.readouterr().out
    assert SHOWN in "".join(line.strip() for line in shown.splitlines()) or SHOWN[:10] in shown
    assert not {"\x1b", "\x07", "\u202e", "😄"} & set(shown)


def test_foreign_text_in_an_error_message_is_harmless() -> None:
    problem: ClickException = FailedProblem(FOREIGN, FOREIGN)
    assert problem.format_message() == f"{SHOWN}; {SHOWN}"


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda p: str(p.relative_to(FOLDER)))
def test_every_command_prints_through_the_one_console(path: Path) -> None:
    if path.name == "console.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "Console", f"{path}:{node.lineno}: use cli.console.PlainConsole"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "from_markup", f"{path}:{node.lineno}"
