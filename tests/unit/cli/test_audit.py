"""`corewatch audit`."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from cli.main import corewatch
from ledger.store import Ledger
from tests.support.ledger import Clock, delivering


def test_export_and_show(tmp_path: Path) -> None:
    file = tmp_path / "corewatch.yaml"
    file.write_text("data_dir: ./data\n")
    (tmp_path / "data").mkdir()
    ledger = Ledger(f"sqlite:///{tmp_path / 'data' / 'ledger.sqlite'}", Clock())
    case_id = delivering(ledger, folder=None)
    ledger.close()
    out = tmp_path / "trail.jsonl"
    run = CliRunner()
    done = run.invoke(corewatch, ["audit", "export", "--config", str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {"case.receiving", "case.delivering"} <= {line["event"] for line in lines}
    assert {line["case"] for line in lines} <= {case_id, None}, "some lines are about no case"
    assert run.invoke(corewatch, ["audit", "export", "--config", str(file), "--out", str(out)]).exit_code == 2, "kept"
    shown = run.invoke(corewatch, ["audit", "show", case_id, "--config", str(file)])
    assert "case.delivering" in shown.output
    later = run.invoke(corewatch, ["audit", "export", "--config", str(file), "--since", "2030-01-01"])
    assert later.output == ""
    assert run.invoke(corewatch, ["audit", "show", "nobody", "--config", str(file)]).exit_code == 2
