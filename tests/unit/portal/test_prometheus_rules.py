"""Alert rules for Prometheus and Grafana's dashboard: valid, right on series, and on metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.store import Ledger
from portal.metrics import CorewatchCollector

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "corewatch.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "corewatch.json"
CASES = Path(__file__).with_name("corewatch.rules.test.yml")


def queries_of_the_dashboard() -> str:
    dashboard = json.loads(DASHBOARD.read_text())
    return "\n".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


@pytest.mark.parametrize("text", [RULES.read_text(), queries_of_the_dashboard()], ids=["rules", "dashboard"])
def test_every_metric_that_is_named_exists(text: str, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    metrics = list(CorewatchCollector(ledger.figures, tmp_path).collect())
    known = {metric.name for metric in metrics} | {sample.name for metric in metrics for sample in metric.samples}
    named = set(re.findall(r"corewatch_\w+", text))
    assert named
    assert named <= known


def test_prometheus_accepts_the_rules_and_they_fire_when_they_should(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    for file in (RULES, CASES):
        shutil.copy(file, tmp_path / file.name)
    for command in (["check", "rules", RULES.name], ["test", "rules", CASES.name]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
