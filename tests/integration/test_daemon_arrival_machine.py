"""Two series arrive in any order over any associations, with pauses, aborts, crashes and restarts: a stateful property test.

The model knows what every sender does. It holds the daemon to this: half a series is taken for complete only when nothing came for
the idle time, or when everything that is visible shows that it is complete; and in the end every instance is in exactly one case.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from corewatch.states import ENDS, CaseState
from tests.support.site import open_site
from tests.support.spool import Sender, head

S = CaseState
SLICES = 9
IDLE_S = 20.0
RETRY_WAIT_S = 120.0
SERIES = ("7", "8")
LOOK_S = 0.2
"""Interval of the daemon's scans in this model; what happens between two scans is seen at the next."""


PIECES = st.one_of(
    # in order from the first, as most senders do: only then does a part of a series look whole
    st.integers(3, SLICES).map(lambda count: set(range(count))),
    st.tuples(st.integers(0, SLICES - 1), st.integers(1, SLICES)).map(lambda part: set(range(part[0], min(SLICES, sum(part))))),
    st.sets(st.integers(0, SLICES - 1), min_size=1, max_size=SLICES),
)
"""Which slices of a series are sent in one go."""


@dataclass
class Association:
    """One sender's association, and which series it has carried."""

    sender: Sender
    name: str
    opened_at: datetime
    carried: set[str] = field(default_factory=set)
    last_at: datetime | None = None
    dead: bool = False


class Arrivals(RuleBasedStateMachine):
    """What senders may do."""

    associations: Bundle[Association] = Bundle("associations")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._opened = open_site(Path(self._folder.name))
        self.site = self._opened.__enter__()
        self.images = {series: head(series, SLICES) for series in SERIES}
        self.open: list[Association] = []
        self.sent: dict[str, set[int]] = {series: set() for series in SERIES}
        self.last_at: dict[str, datetime] = {}
        self.judged: set[str] = set()
        self.released: list[Association] = []
        self.started_at = self.site.clock()

    # what happens -----------------------------------------------------------------------------------------------------

    @rule(target=associations, name=st.sampled_from(["CT1", "PACS"]))
    def associate(self, name: str) -> Association:
        association = Association(self.site.sender(ae_title=name), name, self.site.clock())
        self.open.append(association)
        return association

    @rule(association=associations, series=st.sampled_from(SERIES), numbers=PIECES)
    def send(self, association: Association, series: str, numbers: set[int]) -> None:
        association.sender.send([self.images[series][n] for n in sorted(numbers)])
        association.carried.add(series)
        association.last_at = self.last_at[series] = self.site.clock()
        self.sent[series] |= numbers
        self._look(LOOK_S)

    @rule(association=consumes(associations))
    def release(self, association: Association) -> None:
        association.sender.release()
        self.released.append(association)
        self._end(association)

    @rule(association=consumes(associations))
    def abort(self, association: Association) -> None:
        association.sender.abort()
        self._end(association)

    @rule(association=consumes(associations))
    def listener_is_killed(self, association: Association) -> None:
        """Its record of closing is never written."""
        association.dead = True
        association.sender.crash()

    @rule(seconds=st.sampled_from([0.3, 1.1, 3.0, 21.0, 121.0]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(int(seconds / 1.0)):
            self._look(1.0)
        self._look(seconds % 1.0)

    @rule()
    def somebody_else_comes_and_goes(self) -> None:
        """The end of any arrival makes the daemon look at every series, after the grace once more."""
        self.site.sender(ae_title="ECHO").release()
        self._look(LOOK_S)
        self._look(1.1)

    @precondition(lambda self: self.sent["7"])
    @rule()
    def daemon_is_killed(self) -> None:
        self.site.restart()
        self.started_at = self.site.clock()

    def _end(self, association: Association) -> None:
        self.open.remove(association)
        self._look(LOOK_S)

    def _look(self, seconds: float) -> None:
        self.site.step(seconds)
        for case in self.site.cases():
            if case.state is not S.RECEIVING and case.case_id not in self.judged and case.series_uid is not None:
                self.judged.add(case.case_id)
                self._judge(case.series_uid.rpartition(".")[2], len(self.site.ledger.cases.instance_paths(case)))

    # what must hold ---------------------------------------------------------------------------------------------------

    def _judge(self, series: str, count: int) -> None:
        """A revision was taken for complete just now."""
        assert count == len(self.sent[series]), "what was stored before the decision is in the case"
        if count == SLICES:
            return
        lost = [a for a in self.open if a.dead and series in a.carried and not self._was_made_up_for(a, series)]
        assert not lost or self._quiet_for(series) >= RETRY_WAIT_S - 1.5, "the sender of an interrupted association will try again"
        if self._quiet_for(series) >= IDLE_S - 1.5:
            return
        numbers = self.sent[series]
        assert numbers == set(range(len(numbers))), "a gap is visible: it had to wait for the idle time"
        busy = [a for a in self.open if series in a.carried and not a.dead and self._silent_for(a) < IDLE_S]
        assert not busy, "the rest could still come over an open association"

    def _quiet_for(self, series: str) -> float:
        return (self.site.clock() - max(self.last_at[series], self.started_at)).total_seconds()

    def _was_made_up_for(self, lost: Association, series: str) -> bool:
        return any(lost.last_at is None or (series in a.carried and a.opened_at >= lost.last_at) for a in self.released)

    def _silent_for(self, association: Association) -> float:
        last = association.last_at
        return (self.site.clock() - last) / timedelta(seconds=1) if last is not None else 0.0

    @invariant()
    def at_most_one_case_of_a_series_counts_as_received(self) -> None:
        receiving = Counter(c.series_uid for c in self.site.cases(S.RECEIVING))
        assert all(count == 1 for count in receiving.values())

    def teardown(self) -> None:
        try:
            for seconds in (LOOK_S, 21.0, 121.0, 3700.0, LOOK_S, 21.0, 21.0):
                self._look(seconds)
            self._everything_is_in_one_case()
        finally:
            self._opened.__exit__(None, None, None)
            self._folder.cleanup()

    def _everything_is_in_one_case(self) -> None:
        for case in self.site.cases():
            assert case.state in ENDS | {S.QUEUED}, "no case waits for ever"
        for series, numbers in self.sent.items():
            newest = max((c for c in self.site.cases() if c.series_uid == f"1.2.{series}"), key=lambda c: c.revision, default=None)
            if newest is None:
                assert not numbers
                continue
            contents = [(self.site.received / p).read_bytes() for p in self.site.ledger.cases.instance_paths(newest)]
            assert sorted(contents) == sorted(self.images[series][n][1] for n in numbers)


TestArrivals = Arrivals.TestCase
TestArrivals.settings = settings(
    max_examples=40, stateful_step_count=16, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
