"""Metrics for Prometheus, on a port of their own: one collector that asks the ledger at scrape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from config.settings import Settings
from corewatch.clock import Clock, utc_now
from corewatch.states import CaseState
from foundation.disk import FreeBytes, free_bytes
from foundation.safe_errors import describe_error
from ledger.figures import LedgerFigures
from ledger.store import Ledger

log = structlog.get_logger()

T = TypeVar("T")

BUCKETS_S: Final = (3, 5, 10, 20, 30, 60, 90, 120, 180, 300, 600)
"""Upper limits, in seconds, of the time from the last image to the alert."""

PATIENCE_S: Final = 5.0
"""Seconds that a scrape waits for the ledger and the disk; Prometheus gives up after 10."""


class _Answers(Generic[T]):
    """Answers to a question that may never return: it is asked in one thread at a time, and waited for with a limit."""

    def __init__(self, ask: Callable[[], T], patience_s: float) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._lock = threading.Lock()

    def get(self) -> T | None:
        """The answer; None where it failed, is late, or an earlier question still waits for its answer."""
        if not self._lock.acquire(blocking=False):
            return None
        found: list[T] = []
        done = threading.Event()

        def ask() -> None:
            try:
                found.append(self._ask())
            except Exception as error:
                log.warning("metrics are incomplete", error=describe_error(error))
            finally:
                self._lock.release()
                done.set()

        threading.Thread(target=ask, name="metrics", daemon=True).start()
        done.wait(self._patience_s)
        return found[0] if found else None


class CorewatchCollector(Collector):
    """What Prometheus reads. Labels are states, reasons, queues, destinations and the AE titles of at most 50 peers."""

    def __init__(
        self,
        ask: Callable[[], LedgerFigures],
        data_dir: Path,
        clock: Clock = utc_now,
        free: FreeBytes = free_bytes,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._clock = clock
        self._figures = _Answers(ask, patience_s)
        self._disk = _Answers(lambda: free(data_dir), patience_s / 2)

    def collect(self) -> Iterator[Metric]:
        """The metrics of one scrape; those whose source does not answer are absent."""
        disk = self._disk.get()
        yield GaugeMetricFamily("corewatch_disk_up", "1 if the data folder's disk answered", float(disk is not None))
        if disk is not None:
            yield GaugeMetricFamily("corewatch_disk_free_bytes", "Free space for the data folder", disk)
        figures = self._figures.get()
        yield GaugeMetricFamily("corewatch_ledger_up", "1 if the ledger answered this scrape", float(figures is not None))
        if figures is not None:
            yield from _of_ledger(figures, self._clock())


def _of_ledger(figures: LedgerFigures, now: datetime) -> Iterator[Metric]:
    yield _by("corewatch_cases", "Cases by state", ["state"], [([state], figures.cases.get(state, 0)) for state in CaseState])
    yield _by(
        "corewatch_cases_not_analysed",
        "Cases that were not analysed, by reason",
        ["reason"],
        [([reason], number) for reason, number in sorted(figures.not_analysed.items())],
    )
    queues = figures.queues.items()
    yield _by("corewatch_queue_length", "Cases that wait in or for a queue", ["queue"], [([n], one.length) for n, one in queues])
    ages = [([n], _age(one.oldest, now)) for n, one in queues]
    yield _by("corewatch_queue_oldest_age_seconds", "Wait of a queue's oldest case; 0 if empty", ["queue"], ages)
    yield _by(
        "corewatch_deliveries",
        "Deliveries by destination and state",
        ["destination", "state"],
        [([name, state], number) for (name, state), number in sorted(figures.deliveries.items())],
    )
    yield GaugeMetricFamily("corewatch_alerts_unacknowledged", "Alerts that nobody has acknowledged", figures.open_alerts)
    age = _age(figures.oldest_open_alert, now)
    yield GaugeMetricFamily("corewatch_alerts_unacknowledged_oldest_age_seconds", "Age of the oldest of them; 0 if none", age)
    yield _alert_times(figures.alert_seconds)
    yield _by(
        "corewatch_peer_last_image_timestamp_seconds",
        "When the last image of a peer was stored",
        ["peer"],
        [([peer], at.timestamp()) for peer, at in figures.last_images.items()],
    )


def _by(name: str, text: str, labels: list[str], samples: Sequence[tuple[list[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _alert_times(seconds: Sequence[float]) -> Metric:
    buckets = [(f"{float(limit)}", float(sum(one <= limit for one in seconds))) for limit in BUCKETS_S]
    buckets.append(("+Inf", float(len(seconds))))
    text = "From the last image to the first result that was sent, of alerts"
    return HistogramMetricFamily("corewatch_last_image_to_alert_seconds", text, buckets=buckets, sum_value=float(sum(seconds)))


def start_metrics(settings: Settings, ledger: Ledger) -> Callable[[], None]:
    """Serve `/metrics` in a thread; a port that is taken is logged and stops nothing else.

    Returns
    -------
    Stops the server.
    """
    portal = settings.portal
    if portal is None or portal.metrics_port is None:
        return lambda: None
    registry = CollectorRegistry()  # asks no collector when it registers: auto_describe is off
    registry.register(CorewatchCollector(ledger.figures, settings.data_dir, ledger.clock))
    try:
        server, thread = start_http_server(portal.metrics_port, portal.metrics_host, registry)
    except OSError as error:
        log.error("no metrics: portal.metrics_port cannot be opened", port=portal.metrics_port, error=describe_error(error))
        return lambda: None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    return stop
