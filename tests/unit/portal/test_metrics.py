"""Metrics of the portal: what the ledger counts, as Prometheus reads it, and sources that do not answer."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ledger.store import Ledger
from portal.metrics import CorewatchCollector
from tests.support.ledger import delivering, queued, received


def scrape(collector: CorewatchCollector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def filled(tmp_path: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    received(ledger, "1.1")
    queued(ledger, "1.2")
    delivering(ledger, "1.3", folder=None, email=None)
    return ledger


def test_a_scrape_counts_cases_queues_deliveries_and_peers(filled: Ledger, tmp_path: Path) -> None:
    later = filled.clock() + timedelta(hours=1)
    found = values(scrape(CorewatchCollector(filled.figures, tmp_path, lambda: later, lambda _folder: 42)))
    assert found["corewatch_ledger_up",] == found["corewatch_disk_up",] == 1
    assert found["corewatch_disk_free_bytes",] == 42
    assert (
        found["corewatch_cases", "receiving"] == found["corewatch_cases", "queued"] == found["corewatch_cases", "delivering"] == 1
    )
    assert found["corewatch_cases", "failed"] == 0
    assert found["corewatch_queue_length", "prepare"] == 1
    assert found["corewatch_queue_length", "detect"] == found["corewatch_queue_oldest_age_seconds", "detect"] == 0
    assert found["corewatch_queue_oldest_age_seconds", "prepare"] >= 3599
    assert found["corewatch_deliveries", "folder", "pending"] == 1
    assert sum(name[0] == "corewatch_peer_last_image_timestamp_seconds" for name in found) == 1


def test_prometheus_finds_nothing_wrong(filled: Ledger, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text = scrape(CorewatchCollector(filled.figures, tmp_path))
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_source_that_does_not_answer_is_named_and_asked_once(tmp_path: Path) -> None:
    release, asked = threading.Event(), []

    def hang() -> None:
        asked.append(1)
        release.wait(30)
        raise OSError

    collector = CorewatchCollector(hang, tmp_path, patience_s=0.1)  # type: ignore[arg-type]  # it never returns figures
    began = time.monotonic()
    for _ in range(3):
        found = values(scrape(collector))
        assert found["corewatch_ledger_up",] == 0
        assert ("corewatch_cases", "failed") not in found
    assert time.monotonic() - began < 5
    assert len(asked) == 1
    release.set()
