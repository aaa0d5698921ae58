"""The heartbeat file tells a working program from one that is killed, stopped or not started yet, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from foundation.heartbeat import BEAT_S, STALE_AFTER_S, UNKNOWN, Heartbeat, HeartbeatWatch

START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.s)


class Pair:
    """A program and its observer, with one look per second."""

    def __init__(self, folder: Path) -> None:
        self.time, self.path = Time(), folder / "listener.heartbeat"
        self.watch = HeartbeatWatch(self.path, self.time)
        self.heart: Heartbeat | None = None

    def start(self) -> None:
        self.heart = Heartbeat(self.path, lambda: self.time.now, self.time)

    def run(self, seconds: int, *, beating: bool = True) -> None:
        for _ in range(seconds):
            self.time.s += BEAT_S
            if beating and self.heart is not None:
                self.heart.beat()
            self.seen = self.watch.observe(self.time.now)


def test_nothing_is_known_of_a_program_that_never_ran(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.run(100)
    assert pair.seen == UNKNOWN


def test_a_working_program_is_there_since_its_start(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.start()
    started = pair.time.now
    pair.run(20)
    assert (pair.seen.since, pair.seen.away_s) == (started, 0.0)


def test_a_program_that_is_stopped_is_away_and_then_back(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.start()
    pair.run(20)
    pair.run(int(STALE_AFTER_S) + 1, beating=False)
    assert pair.seen.away_s > STALE_AFTER_S
    pair.run(1)
    assert (pair.seen.since, pair.seen.away_s) == (pair.time.now, 0.0)
    back = pair.time.now
    pair.run(50)
    assert pair.seen.since == back


def test_a_quick_restart_is_noticed(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.start()
    pair.run(20)
    pair.run(1, beating=False)
    pair.start()
    restarted = pair.time.now
    pair.run(2)
    assert (pair.seen.since, pair.seen.away_s) == (restarted, 0.0)


def test_a_file_of_an_earlier_run_is_no_sign_of_life(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.start()
    pair.run(3)
    pair.watch, pair.heart = HeartbeatWatch(pair.path, pair.time), None
    pair.run(1)
    assert pair.seen.away_s > 0
    pair.run(60)
    assert pair.seen.away_s >= 59
    pair.start()
    restarted = pair.time.now
    pair.run(2)
    assert (pair.seen.since, pair.seen.away_s) == (restarted, 0.0)


def test_an_observer_that_starts_later_learns_the_start_of_the_program(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.start()
    started = pair.time.now
    pair.run(30)
    pair.watch = HeartbeatWatch(pair.path, pair.time)
    pair.run(2)
    assert (pair.seen.since, pair.seen.away_s) == (started, 0.0)


def test_a_disk_that_cannot_be_written_costs_only_the_beat(tmp_path: Path) -> None:
    Heartbeat(tmp_path / "missing" / "listener.heartbeat").beat()


def test_a_damaged_file_counts_from_now(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.path.write_bytes(b"\xff")
    pair.run(1)
    pair.path.write_bytes(b"")
    pair.path.unlink()
    pair.path.write_bytes(b"\xffno time")
    pair.run(1)
    assert pair.seen.since == pair.time.now
