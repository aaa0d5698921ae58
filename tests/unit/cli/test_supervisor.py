"""The supervisor: its policy, and its handling of programs, with fake processes and a fake clock."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from cli.supervisor import (
    BACKOFF,
    HEALTHY_AFTER_S,
    Program,
    Supervisor,
)
from corewatch.errors import ConfigurationError


def test_delays_double_from_one_second_to_a_minute() -> None:
    assert [BACKOFF.delay_s(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@dataclass
class FakeProcess:
    pid: int
    journal: list[str]
    heeds_sigterm: bool = True
    status: int | None = None

    def poll(self) -> int | None:
        return self.status

    def terminate(self) -> None:
        self.journal.append(f"terminate {self.pid}")
        if self.heeds_sigterm:
            self.status = 0


@dataclass
class FakeWatchdog:
    """Hangs when the test says so, until the next start."""

    silent: bool = False
    closed: bool = False

    def reset(self) -> None:
        self.silent = False

    def hangs(self) -> bool:
        return self.silent

    def close(self) -> None:
        self.closed = True


@dataclass
class World:
    """Fake machine: time passes only when somebody sleeps."""

    now: float = 0.0
    journal: list[str] = field(default_factory=list)
    processes: dict[int, FakeProcess] = field(default_factory=dict)
    stubborn: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def kill(self, pid: int) -> None:
        process = self.processes[pid]
        if process.status is None:
            self.journal.append(f"kill {pid}")
            process.status = -9

    def program(self, name: str, order: int = 0, limit_s: float = 5.0, watchdog: FakeWatchdog | None = None) -> Program:
        def start() -> FakeProcess:
            if name in self.broken:
                raise ConfigurationError("it cannot work")
            process = FakeProcess(len(self.processes) + 1, self.journal, heeds_sigterm=name not in self.stubborn)
            self.processes[process.pid] = process
            self.journal.append(f"start {name}")
            return process

        return Program(name, start, order, limit_s, watchdog)

    def supervise(self, *programs: Program) -> Supervisor:
        supervisor = Supervisor(programs, clock=self.clock, sleep=self.sleep, kill=self.kill)
        supervisor.step()
        return supervisor

    def run(self, supervisor: Supervisor, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.sleep(0.25)
            supervisor.step()


def test_everything_is_started_in_order() -> None:
    world = World()
    supervisor = world.supervise(world.program("redis"), world.program("listen"), world.program("watch"))
    assert world.journal == ["start redis", "start listen", "start watch"]
    assert supervisor.pid("watch") == 3
    assert supervisor.pid("unknown") is None


def test_what_ends_is_started_again_later_and_later() -> None:
    world = World()
    supervisor = world.supervise(world.program("watch"))
    starts = [world.now]
    for _ in range(4):
        world.processes[len(world.processes)].status = 1
        known = len(world.processes)
        while len(world.processes) == known:
            world.run(supervisor, 0.25)
        starts.append(world.now)
    waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert waits == pytest.approx([1.25, 2.25, 4.25, 8.25])


def test_a_program_that_ended_well_is_started_again_too() -> None:
    world = World()
    supervisor = world.supervise(world.program("watch"))
    world.processes[1].status = 0
    world.run(supervisor, 2)
    assert world.journal.count("start watch") == 2


def test_health_resets_the_delay() -> None:
    world = World()
    supervisor = world.supervise(world.program("watch"))
    for _ in range(3):
        world.processes[len(world.processes)].status = 1
        world.run(supervisor, 10)
    world.run(supervisor, HEALTHY_AFTER_S)
    world.processes[len(world.processes)].status = 1
    known = len(world.processes)
    world.run(supervisor, 1.5)
    assert len(world.processes) == known + 1


def test_one_that_cannot_be_started_is_tried_again_and_disturbs_no_other() -> None:
    world = World(broken={"listen"})
    supervisor = world.supervise(world.program("listen"), world.program("watch"))
    assert world.journal == ["start watch"]
    assert supervisor.pid("listen") is None
    world.broken.clear()
    world.run(supervisor, 2)
    assert world.journal == ["start watch", "start listen"]


def test_one_that_hangs_is_killed_once_and_started_again() -> None:
    world, watchdog = World(), FakeWatchdog()
    supervisor = world.supervise(world.program("watch", watchdog=watchdog), world.program("listen"))
    world.run(supervisor, 10)
    watchdog.silent = True
    world.run(supervisor, 5)
    assert world.journal == ["start watch", "start listen", "kill 1", "start watch"]
    supervisor.request_restart("listen")
    world.run(supervisor, 5)
    assert world.journal[4:] == ["kill 2", "start listen"]
    supervisor.stop()
    assert watchdog.closed


def test_what_ended_by_itself_is_not_killed_for_its_silence() -> None:
    world, watchdog = World(), FakeWatchdog()
    supervisor = world.supervise(world.program("watch", watchdog=watchdog))
    world.processes[1].status, watchdog.silent = 1, True
    world.run(supervisor, 5)
    assert world.journal == ["start watch", "start watch"]


def test_programs_stop_in_their_order() -> None:
    world = World()
    supervisor = world.supervise(
        world.program("redis", 4), world.program("work-a", 2), world.program("listen", 0), world.program("work-b", 2)
    )
    world.journal.clear()
    supervisor.stop()
    assert world.journal == ["terminate 3", "terminate 2", "terminate 4", "terminate 1"]
    assert all(process.status == 0 for process in world.processes.values())


def test_a_stubborn_program_is_killed_after_its_limit_and_the_others_wait_for_that() -> None:
    world = World(stubborn={"work"})
    supervisor = world.supervise(world.program("redis", 4), world.program("work", 2, limit_s=30))
    world.journal.clear()
    supervisor.stop()
    assert world.journal == ["terminate 2", "kill 2", "terminate 1"]
    assert 30 <= world.now <= 31


def test_in_a_hurry_nobody_is_waited_for() -> None:
    world = World(stubborn={"work", "listen"})
    supervisor = world.supervise(world.program("listen", 0, limit_s=1000), world.program("work", 2, limit_s=1000))
    supervisor.stop(lambda: world.now > 1)
    assert world.now < 3
    assert all(process.status is not None for process in world.processes.values())


def test_stopping_what_has_ended_already_is_quiet() -> None:
    world = World()
    supervisor = world.supervise(world.program("watch"))
    world.processes[1].status = 1
    world.journal.clear()
    supervisor.stop()
    assert world.journal == []
    assert supervisor.pid("watch") is None


def test_a_program_that_does_not_answer_is_killed_and_started_again() -> None:
    world = World()
    supervisor = world.supervise(world.program("listen"), world.program("watch"))
    world.journal.clear()
    supervisor.request_restart("listen")
    world.run(supervisor, 2)
    assert world.journal == ["kill 1", "start listen"]
    world.run(supervisor, 60)
    assert world.journal == ["kill 1", "start listen"], "once"


def test_one_that_has_ended_meanwhile_is_only_started_again() -> None:
    world = World()
    supervisor = world.supervise(world.program("listen"))
    supervisor.request_restart("listen")
    world.processes[1].status = 1
    world.run(supervisor, 3)
    assert world.journal == ["start listen", "start listen"]


def test_a_restart_that_was_asked_for_stops_in_its_own_time_and_starts_at_once() -> None:
    world = World(stubborn={"slow"})
    supervisor = world.supervise(world.program("quick"), world.program("slow", limit_s=5.0), world.program("other"))
    started = len(world.processes)
    supervisor.restart(["quick", "slow"])
    supervisor.step()
    supervisor.step()
    assert len(world.processes) == started + 1
    world.now += 5.0
    supervisor.step()
    supervisor.step()
    assert len(world.processes) == started + 2
    assert sum(line.startswith("kill") for line in world.journal) == 1
