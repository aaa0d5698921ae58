"""The detect worker whose process ends, whose device breaks or that gets SIGTERM in the middle of a case: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cli.checks import Level
from cli.checks.analysis import workers
from config.settings import BrokerSettings
from corewatch.states import CaseState
from tests.support.detect_worker import BREAKS, DAWDLES, DIES
from tests.support.detecting import DetectSite
from tests.support.postgres import Postgres
from tests.support.proxy import Cut, Passage, proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PREPARED, DETECTED, FAILED = CaseState.PREPARED, CaseState.DETECTED, CaseState.FAILED


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DetectSite]:
    made = DetectSite(tmp_path, work={"attempts": 2})
    yield made
    made.close()


def attempts(site: DetectSite, case_id: str) -> int:
    case = site.ledger.cases.get(case_id)
    assert case is not None
    return case.attempts


def waiter(site: DetectSite, case_id: str) -> Callable[[CaseState], None]:
    return lambda state: site.wait(f"{case_id} to be {state}", lambda: site.states()[case_id] is state)


def test_a_process_that_is_ended_in_the_middle_of_a_case(site: DetectSite) -> None:
    """As the kernel ends it: the case is tried again at once, given up at last, and the next one is done."""
    site.install()
    [deadly], [next_one] = site.prepared(first_voxel=DIES), site.prepared()
    with site.worker():
        site.dispatch()
        waiter(site, deadly)(FAILED)
        waiter(site, next_one)(DETECTED)
    case = site.ledger.cases.get(deadly)
    assert case is not None
    assert "given up after 2 attempts; the worker ended each time" in case.detail


def test_a_case_that_breaks_the_device_alone_pays_for_it(site: DetectSite) -> None:
    """The one behind it waits for a new process."""
    site.install()
    [breaking], [behind] = site.prepared(first_voxel=BREAKS), site.prepared()
    with site.worker():
        site.dispatch()
        waiter(site, behind)(DETECTED)
        assert attempts(site, behind) <= 1, "it was never tried on the broken device"
        assert site.states()[breaking] is PREPARED
        assert "model_recovered" in site.log.read_text()


def test_a_worker_that_is_told_to_stop_ends_its_case_and_begins_no_other(site: DetectSite) -> None:
    site.install()
    [slow], [waits] = site.prepared(first_voxel=DAWDLES), site.prepared()
    with site.worker() as parent:
        site.dispatch()
        site.wait("the slow case to be begun", lambda: _held(site, slow))
        parent.terminate()
        site.go_on.touch()
        gone, _ = psutil.wait_procs([parent], timeout=60)
        assert gone == [parent]
        assert site.states()[slow] is DETECTED
        assert site.states()[waits] is PREPARED
    with site.worker():
        waiter(site, waits)(DETECTED)
    assert attempts(site, waits) <= 1


def _held(site: DetectSite, case_id: str) -> bool:
    case = site.ledger.cases.get(case_id)
    return case is not None and case.holder is not None


def test_a_process_that_ends_while_the_broker_is_away_does_not_end_the_worker(site: DetectSite) -> None:
    site.install(adapter="too-large")
    [case_id] = site.prepared()
    assert site.redis.process is not None
    broker = psutil.Process(site.redis.process.pid)
    site.dispatch()
    broker.suspend()
    with site.worker() as parent:
        try:
            site.wait("its process to end", lambda: [c for c in parent.children() if c.status() == psutil.STATUS_ZOMBIE])
        finally:
            broker.resume()
        site.wait("the log to say so", lambda: "still not loaded after" in site.log.read_text())
        site.install()
        waiter(site, case_id)(DETECTED)


def test_a_model_that_ends_the_process_that_loads_it_is_told(site: DetectSite) -> None:
    settings = site.settings.model_copy(update={"broker": BrokerSettings.model_validate({"url": site.url})})
    site.install(adapter="too-large")
    [case_id] = site.prepared()
    with site.worker():
        site.dispatch()
        site.wait("the log to say so", lambda: "still not loaded after" in site.log.read_text())
        [found] = [one for one in workers(settings) if one.subject == "detect worker"]
        assert found.level is Level.ERROR
        assert "has no model and takes no work" in found.found
        assert site.states()[case_id] is PREPARED
        site.install()
        waiter(site, case_id)(DETECTED)
        [found] = [one for one in workers(settings) if one.subject == "detect worker"]
        assert found.level is Level.OK
    assert attempts(site, case_id) <= 1


@pytest.mark.servers
def test_a_process_that_starts_while_the_database_is_away_works_once_it_is_back(tmp_path: Path, postgres: Postgres) -> None:
    """Celery swallows what its signal handlers raise: such a process used to fail every message it took."""
    away = False

    def pass_on(_passage: Passage, data: bytes) -> bytes:
        if away:
            raise Cut
        return data

    url = postgres.new_database("childaway")
    with proxy(postgres.port, pass_on) as between:
        site = DetectSite(tmp_path, database={"url": url.replace(f":{postgres.port}/", f":{between.port}/")})
        try:
            site.install()
            [before] = site.prepared()
            site.dispatch()
            with site.worker() as parent:
                waiter(site, before)(DETECTED)
                [late] = site.prepared()
                [child] = [c for c in parent.children() if c.status() != psutil.STATUS_ZOMBIE]
                away = True
                child.kill()
                site.wait("its successor to wait", lambda: "worker_context_unavailable" in site.log.read_text())
                away = False
                site.dispatch()
                waiter(site, late)(DETECTED)
                assert "worker_context_recovered" in site.log.read_text()
            assert attempts(site, late) == 0, "no attempt failed"
        finally:
            site.close()
