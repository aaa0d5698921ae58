"""The detect worker over many cases, over cases that hang it or shoot it, and without its model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from corewatch.reasons import Reason
from corewatch.states import CaseState
from tests.integration.conftest import OPERATORS
from tests.support.detect_worker import HANGS
from tests.support.detecting import DetectSite, computing_child, has_tensorflow
from tests.support.mailbox import Mailbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TENSORFLOW = "quick-tensorflow"
MIB = 1024**2
MANY = 300
SETTLED = range(70, 110)
LAST = range(260, 300)
"""Cases that a stretch of the run has behind it; before the first one a worker does not yet have everything that it keeps."""

MAY_GROW_MIB = 24
"""A tenth of a core map (3.4 MiB) kept per case would show as twice as much between the two stretches."""


class ResidentMemory:
    """What a process holds over the run. Scratch memory comes and goes, what is kept stays: so the least of a stretch counts at its
    end and the most of a stretch at its beginning."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._mib: dict[int, list[float]] = {}

    def note(self, done: int) -> None:
        """Check the state after this many cases."""
        self._mib.setdefault(done, []).append(self._process.memory_info().rss / MIB)

    @property
    def grown_mib(self) -> float:
        """By how much the last stretch is above the settled one, in MiB."""
        return min(self._within(LAST)) - max(self._within(SETTLED))

    def _within(self, cases: range) -> list[float]:
        return [mib for done, seen in self._mib.items() if done in cases for mib in seen]

    def __repr__(self) -> str:
        return ", ".join(f"{done}: {seen[-1]:.0f}" for done, seen in self._mib.items()) + " MiB"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., DetectSite]]:
    made: list[DetectSite] = []

    def make(**settings: object) -> DetectSite:
        made.append(DetectSite(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_memory_is_flat_over_many_cases_and_the_parent_never_loads_tensorflow(site: Callable[..., DetectSite]) -> None:
    here = site()
    here.install(adapter=TENSORFLOW)
    here.prepared(MANY)

    with here.worker() as parent:
        while here.dispatch():
            pass
        here.wait("TensorFlow", lambda: computing_child(parent))
        child = computing_child(parent)
        assert child is not None
        of_child, of_parent = ResidentMemory(child), ResidentMemory(parent)

        def all_detected() -> bool:
            done = sum(1 for _ in here.settings.cases_dir.glob("*/finding.json"))
            of_child.note(done)
            of_parent.note(done)
            return done == MANY

        here.wait("all cases", all_detected, 500)
        assert computing_child(parent) == child, here.tail()
        assert of_child.grown_mib < MAY_GROW_MIB, of_child
        assert of_parent.grown_mib < MAY_GROW_MIB, of_parent
        assert not has_tensorflow(parent)
    assert set(here.states().values()) == {CaseState.DETECTED}


def test_a_hung_case_is_killed_tried_again_and_failed_and_the_worker_lives_on(site: Callable[..., DetectSite]) -> None:
    here = site(work={"detect_limit_s": 1, "attempts": 2})
    here.install(adapter=TENSORFLOW)
    [hung] = here.prepared(first_voxel=HANGS)

    with here.worker() as parent:
        here.wait("TensorFlow", lambda: computing_child(parent))
        children = [computing_child(parent)]
        for _attempt in range(2):
            here.dispatch()
            here.wait("another child", lambda: computing_child(parent) not in (None, *children))
            assert here.states()[hung] is CaseState.PREPARED
            assert here.reconcile(ahead_s=3600) == 1
            children.append(computing_child(parent))
        here.dispatch()
        here.wait("the case to fail", lambda: here.states()[hung] is CaseState.FAILED)
        [next_one] = here.prepared()
        here.dispatch()
        here.wait("the next case", lambda: here.states()[next_one] is CaseState.DETECTED)
        assert not has_tensorflow(parent)
    case = here.ledger.cases.get(hung)
    assert case is not None
    assert "given up after 2 attempts" in case.detail


def test_a_worker_takes_work_only_while_it_has_its_model(site: Callable[..., DetectSite]) -> None:
    mailbox = Mailbox()
    email = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "a@b.example", "operators": [OPERATORS]}
    here = site(deliver={"email": email})
    [case_id] = here.prepared()
    [special] = here.prepared(model="another")
    second = here.install("second", gain=2.0)  # a model that a rule of the settings names, beside the one that is missing
    [by_rule] = here.prepared(model="second")

    with here.worker() as parent:
        here.dispatch()
        here.wait("the log to say so", lambda: "model_missing" in here.log.read_text())
        here.wait("the log to say so again", lambda: "model_still_missing" in here.log.read_text())
        [mail] = here.wait("the operators' mail", lambda: mailbox.mails)
        assert mail["To"] == OPERATORS
        assert "there is no model 'quick'" in mail.get_content()
        assert mailbox.recipients == [[OPERATORS]]
        assert here.consumed() == set()
        assert here.waiting_messages() == 3
        assert set(here.states().values()) == {CaseState.PREPARED}
        manifest = here.install()
        here.wait("the waiting case", lambda: here.states()[case_id] is CaseState.DETECTED)
        assert here.consumed() == {"detect"}
        here.wait("the missing model's case", lambda: here.states()[special] is CaseState.NOT_ANALYSED)
        here.wait("the second model's case", lambda: here.states()[by_rule] is CaseState.DETECTED)
        assert here.found(case_id).model == manifest.identity
        assert here.found(by_rule).model == second.identity
        assert here.found(by_rule).core_ml == pytest.approx(4 * here.found(case_id).core_ml, rel=1e-5), "twice the gain, squared"
        assert "exited with" not in here.log.read_text(), "a child that makes room for the next try alarms nobody"

        weights = here.settings.models_dir / manifest.name / manifest.weights
        kept = weights.read_bytes()
        weights.write_bytes(b"broken")
        [child] = parent.children()
        child.kill()
        here.wait("the queue to be closed", lambda: here.consumed() == set())
        [late] = here.prepared()
        here.dispatch()
        weights.write_bytes(kept)
        here.wait("the late case", lambda: here.states()[late] is CaseState.DETECTED)
    mailbox.stop()
    assert len(mailbox.mails) <= 2, "once each time"
    other, done = here.ledger.cases.get(special), here.ledger.cases.get(case_id)
    assert other is not None
    assert other.reason is Reason.MODEL_MISSING
    assert done is not None
    assert done.attempts <= 1, "waiting is no attempt"
