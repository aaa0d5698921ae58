"""Write the layouts from the history of `ledger/tables.py`: `python -m tests.support.layouts.generate`, in a full checkout.

Each commit below is the first one of its layout. Its module is executed as it was, and what `create_all` sends to a database, with
the version and the triggers that programs of that time added, is the layout.
"""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

from sqlalchemy import create_mock_engine

from tests.support.layouts import FOLDER

COMMITS = {
    "1_first": "9efee63",
    "2_planned_at": "1062f89",
    "3_version_1": "1aff5a7",
    "4_version_2": "3b9024b",
    "5_letters": "03a61cd",
    "6_commitments": "0bfe9ba",
    "7_digests": "3db4c92",
    "8_alerts": "a8b06ba",
    "9_append_only": "aff0c95",
}
DIALECTS = {"sqlite": "sqlite://", "postgresql": "postgresql+pg8000://"}


def module(commit: str, path: str) -> dict[str, Any] | None:
    """The names of a module as it was at a commit; None where there was none."""
    shown = subprocess.run(["git", "show", f"{commit}:{path}"], capture_output=True, text=True, check=False)
    if shown.returncode:
        return None
    names: dict[str, Any] = {"__name__": f"at_{commit}"}
    exec(compile(shown.stdout, path, "exec", dont_inherit=True), names)
    return names


def layout(commit: str, dialect: str) -> list[str]:
    """The statements that a program of that commit sent to an empty database."""
    sent: list[str] = []
    engine = create_mock_engine(DIALECTS[dialect], lambda what, *_a, **_k: sent.append(str(what.compile(dialect=engine.dialect))))
    tables = module(commit, "ledger/tables.py")
    assert tables is not None, commit
    tables["metadata"].create_all(engine, checkfirst=False)
    if "SCHEMA_VERSION" in tables:
        sent.append(f"INSERT INTO schema_version (version) VALUES ({tables['SCHEMA_VERSION']})")
    append_only = module(commit, "ledger/append_only.py")
    if append_only is not None:
        connection = SimpleNamespace(dialect=engine.dialect, execute=lambda what: sent.append(str(what)))
        append_only["make_append_only"](connection)
    return ["\n".join(line.rstrip().replace("\t", "    ") for line in one.strip().splitlines()) for one in sent]


if __name__ == "__main__":
    for name, commit in COMMITS.items():
        for dialect in DIALECTS:
            text = "".join(f"{statement};\n" for statement in layout(commit, dialect))
            (FOLDER / f"{name}.{dialect}.sql").write_text(text)
