"""Chaos test: programs, broker and database are killed and stopped while series arrive.

    python -m benchmarks.chaos --cases 100 --slices 100 --seed 1 --earlier REVISION --json chaos.json

Runs `corewatch up` against a real PostgreSQL, Orthanc and SMTP server. Four senders and a watched folder bring the series.
Meanwhile each program, Redis and PostgreSQL are killed (SIGKILL) and stopped (SIGSTOP) in a drawn order at drawn moments, the disk
of the data folder fills up, the clock jumps, and the product is upgraded from an earlier revision in the middle. The run then waits
until every case has ended, and counts

- lost: acknowledged instances that are in no case with the bytes that were sent;
- partial: results delivered about fewer slices than the series has;
- duplicate: alert mails about one series, or result series in the PACS, beyond one each;
- silent: cases that have not ended, and about which no operators' mail was sent within ten minutes.

The full disk needs root (a file system in a file, mounted by loop); clock jumps need a C compiler; an upgrade needs git. What
cannot be done here is named in the output. Ends with 1 unless all four counts are 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos_site import (
    ALERT_TO,
    OPERATORS,
    ROOT,
    Clock,
    Installation,
    PlannedSeries,
    RestartablePostgres,
    TimedMailbox,
    earlier_tree,
    limited_disk,
    plan,
    signal_to,
)
from corewatch.states import ENDS, CaseState
from ledger.cases import Case
from ledger.store import Ledger
from tests.support.mailbox import Mailbox
from tests.support.net import free_port
from tests.support.orthanc import Orthanc
from tests.support.stubborn import StubbornSender

PROGRAMS: Final = ("listen", "watch", "work-prepare", "work-detect", "work-deliver", "redis")
SENDERS: Final = 4
STOPPED_S: Final = (5.0, 25.0)
DISK_FULL_S: Final = 15.0
CLOCK_JUMPS_S: Final = (3600, -1800, 90, -90)
OPERATORS_LIMIT_S: Final = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=40, help="kills and stops over the run")
    parser.add_argument("--every-s", type=float, default=8.0, help="mean time between two faults")
    parser.add_argument("--earlier", help="git revision to begin with; upgraded to this tree after a third of the series")
    parser.add_argument("--disk-gib", type=int, default=24, help="size of the data folder's file system")
    parser.add_argument("--limit-s", type=float, default=3600.0, help="time limit for all cases to end")
    parser.add_argument("--json", type=Path, help="where the counts are written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, ExitStack() as stack:
        Path(name).chmod(0o755)  # PostgreSQL runs as a user of its own
        outcome = run(Path(name), options, stack)
    print(json.dumps(outcome, indent=2))
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=2) + "\n")
    sys.exit(any(outcome[count] for count in ("lost", "partial", "duplicate", "silent")))


class Faults(threading.Thread):
    """Strikes one fault after the other, in a drawn order at drawn moments."""

    def __init__(self, site: Installation, postgres: RestartablePostgres, clock: Clock, disk: Path | None, options: Any) -> None:
        super().__init__(daemon=True)
        self._site, self._postgres, self._clock, self._disk = site, postgres, clock, disk
        self._lot, self._every_s = random.Random(options.seed + 1), options.every_s
        self.struck: Counter[str] = Counter()
        self.pause, self.end = threading.Event(), threading.Event()
        self.idle = threading.Event()
        self.idle.set()
        kinds = [f"{how} {name}" for name in (*PROGRAMS, "postgres") for how in ("kill", "stop")]
        kinds += ["clock"] * (2 if clock.works else 0) + ["disk full"] * (2 if disk else 0)
        repeats = options.faults // len(kinds) + 1
        self._shots = self._lot.sample(kinds * repeats, options.faults)

    def run(self) -> None:
        """Strike until all faults are used or the run ends."""
        for shot in self._shots:
            if self.end.wait(self._lot.uniform(0.5, 1.5) * self._every_s):
                return
            while self.pause.is_set() and not self.end.wait(0.1):
                pass
            self.idle.clear()
            try:
                self._strike(shot)
                self.struck[shot] += 1
            finally:
                self.idle.set()

    def _strike(self, shot: str) -> None:
        how, _, name = shot.partition(" ")
        print(f"{time.strftime('%H:%M:%S')} {shot}", file=sys.stderr, flush=True)
        if how == "clock":
            self._clock.jump(self._lot.choice(CLOCK_JUMPS_S))
        elif how == "disk":
            self._fill()
        elif name == "postgres" and how == "kill":
            self._postgres.kill(self._lot.uniform(0.5, 8.0))
        else:
            victims = self._postgres.processes() if name == "postgres" else self._site.family(name)
            number = signal.SIGKILL if how == "kill" else signal.SIGSTOP
            for victim in victims:
                signal_to(victim, number)
            if how == "stop":
                self.end.wait(self._lot.uniform(*STOPPED_S))
                for victim in victims:
                    signal_to(victim, signal.SIGCONT)

    def _fill(self) -> None:
        assert self._disk is not None
        filler = self._disk / "filler"
        free = shutil.disk_usage(self._disk).free
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(free - 2**20, 1))
        try:
            self.end.wait(DISK_FULL_S)
        finally:
            filler.unlink()


def settings_of(orthanc: Orthanc, mailbox: Mailbox, database_url: str) -> dict[str, Any]:
    """Settings of the installation under test: short waits, everything delivered."""
    portal = free_port()
    return {
        "database": {"url": database_url},
        "listener": {"port": free_port(), "host": "127.0.0.1"},
        "flower": {"port": free_port()},
        "portal": {"port": portal, "url": f"http://127.0.0.1:{portal}"},
        "series": {"grace_s": 1, "idle_s": 20, "rules": [{"name": "cta-head", "min_slices": 50}]},
        "watch": {"folders": [{"path": "./inbox"}], "settle_s": 2, "rescan_s": 2},
        "model": {"spread": False},
        "work": {"lease_s": 60, "attempts": 10},
        "retention": {"free_gib": 0},
        "deliver": {
            "pacs": [{"name": "orthanc", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom}],
            "folder": {"path": "./results"},
            "backoff_s": 2,
            "email": {
                "host": "127.0.0.1",
                "port": mailbox.port,
                "security": "none",
                "from": "corewatch@hospital.example",
                "to": [ALERT_TO],
                "operators": [OPERATORS],
            },
        },
    }


def run(folder: Path, options: Any, stack: ExitStack) -> dict[str, Any]:
    """One run; returns the counts."""
    not_done: list[str] = []
    orthanc_binary = shutil.which("Orthanc")
    if orthanc_binary is None:
        raise SystemExit("Orthanc is missing: run scripts/install-test-tools.sh")
    orthanc = Orthanc(orthanc_binary, folder / "orthanc")
    stack.callback(orthanc.stop)
    mailbox = TimedMailbox()
    stack.callback(mailbox.stop)
    postgres = RestartablePostgres(folder / "postgres")
    stack.callback(postgres.stop)
    clock = Clock(folder / "clock")
    if not clock.works:
        not_done.append("clock jumps: there is no C compiler")
    home = folder / "home"
    mounted = stack.enter_context(limited_disk(home, options.disk_gib))
    if not mounted:
        not_done.append("full disk: no file system could be mounted")
    tree = stack.enter_context(earlier_tree(options.earlier, folder / "earlier"))
    if options.earlier is None:
        not_done.append("upgrade: no earlier revision was named")

    series = plan(folder / "series", options.cases, options.slices, options.seed)
    site = Installation(home, settings_of(orthanc, mailbox, postgres.url), clock)
    site.start(tree)
    stack.callback(site.stop)
    faults = Faults(site, postgres, clock, home if mounted else None, options)
    stack.callback(faults.end.set)
    started = time.monotonic()
    faults.start()
    lot = random.Random(options.seed)
    acknowledged: dict[str, str] = {}

    def bring(part: list[PlannedSeries]) -> None:
        drops = part[::5]
        sent = [one for one in part if one not in drops]
        senders = [
            threading.Thread(target=send, args=(site.port, n, sent[n::SENDERS], acknowledged, options.limit_s))
            for n in range(SENDERS)
        ]
        for sender in senders:
            sender.start()
        for one in drops:
            drop(site.inbox, one, acknowledged)
            time.sleep(lot.uniform(0.5, 5.0))
        for sender in senders:
            sender.join()

    third = len(series) // 3 if options.earlier else 0
    bring(series[:third])
    if options.earlier:
        faults.pause.set()
        faults.idle.wait(60)
        site.stop()
        site.start(ROOT)
        faults.pause.clear()
    bring(series[third:])
    faults.join(timeout=options.faults * (options.every_s * 2 + max(STOPPED_S)))
    faults.end.set()
    with closing_ledger(site.settings.database_url) as ledger:
        silent = wait_until_ended(ledger, mailbox, series, options.limit_s)
        counts = count(ledger, site, series, acknowledged, orthanc, mailbox)
    return {
        "cases": len(series),
        "instances_acknowledged": len(acknowledged),
        **counts,
        "silent": silent,
        "faults": dict(sorted(faults.struck.items())),
        "not_done": not_done,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
    }


@contextmanager
def closing_ledger(url: str) -> Iterator[Ledger]:
    """A ledger that is closed at the end."""
    ledger = Ledger(url)
    try:
        yield ledger
    finally:
        ledger.close()


def send(port: int, number: int, series: list[PlannedSeries], acknowledged: dict[str, str], limit_s: float) -> None:
    """Send series after series, each until all its instances are acknowledged."""
    for one in series:
        sender = StubbornSender(port, f"SENDER{number}", one.instances(), per_association=1000, seconds=limit_s)
        sender.run()
        acknowledged.update(dict.fromkeys(sender.acknowledged, one.series_uid))


def drop(inbox: Path, one: PlannedSeries, acknowledged: dict[str, str]) -> None:
    """Put a series into the watched folder, under its name when it is whole; again when the disk is full."""
    hidden = inbox / f".{one.patient_id}"
    while True:
        try:
            hidden.mkdir(parents=True, exist_ok=True)
            images = one.instances()
            for position, (_, data) in enumerate(images):
                (hidden / f"{position:05d}.dcm").write_bytes(data)
            hidden.rename(inbox / one.patient_id)
        except OSError:
            time.sleep(2)
            continue
        acknowledged.update({uid: one.series_uid for uid, _ in images})
        return


def current_cases(ledger: Ledger, series: list[PlannedSeries]) -> dict[str, list[Case]]:
    """Cases of each planned series, every revision."""
    found: dict[str, list[Case]] = {one.series_uid: [] for one in series}
    for case in ledger.cases.find(limit=100_000):
        if case.series_uid in found:
            found[case.series_uid].append(case)
    return found


def wait_until_ended(ledger: Ledger, mailbox: TimedMailbox, series: list[PlannedSeries], limit_s: float) -> int:
    """Wait until each series has a case and all have ended; returns the number of silent ones."""
    begun, deadline = time.time(), time.monotonic() + limit_s
    while True:
        try:
            cases = current_cases(ledger, series)
        except Exception as error:
            print(f"ledger: {type(error).__name__}", file=sys.stderr)
            time.sleep(2)
            continue
        open_ones = [uid for uid, found in cases.items() if not found or any(case.state not in ENDS for case in found)]
        if not open_ones:
            return 0
        if time.monotonic() > deadline:
            told = mailbox.operators_since(begun) and time.time() - begun >= OPERATORS_LIMIT_S
            return 0 if told else len(open_ones)
        time.sleep(1)


def count(
    ledger: Ledger,
    site: Installation,
    series: list[PlannedSeries],
    acknowledged: dict[str, str],
    orthanc: Orthanc,
    mailbox: TimedMailbox,
) -> dict[str, Any]:
    """Lost instances, partial results, duplicates, and the states that the cases ended in."""
    lost = partial = duplicate = 0
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    details: list[str] = []
    for one in series:
        cases = current_cases(ledger, [one])[one.series_uid]
        for case in cases:
            states[str(case.state)] += 1
            if case.reason is not None:
                reasons[str(case.reason)] += 1
            slices = len(ledger.cases.instance_paths(case))
            mails = [
                m
                for m, to in zip(mailbox.mails, mailbox.recipients, strict=False)
                if ALERT_TO in to and case.case_id in str(m["Subject"])
            ]
            delivered = case.state is CaseState.DELIVERED or bool(mails)
            if delivered and slices != len(one.template):
                partial += 1
                details.append(f"{case.case_id}: delivered about {slices} of {len(one.template)} slices")
            if case.state is CaseState.FAILED:
                details.append(f"{case.case_id}: failed: {case.detail}")
        alerts = sum(alerts_about(mailbox, case) for case in cases)
        if alerts > 1:
            duplicate += alerts - 1
            details.append(f"{one.patient_id}: {alerts} alert mails")
        stored = Counter(
            (entry["MainDicomTags"].get("Modality"), entry["MainDicomTags"].get("SeriesDescription"))
            for entry in orthanc.find("Series", StudyInstanceUID=one.study_uid)
        )
        doubled = sum(n - 1 for n in stored.values())
        if doubled:
            duplicate += doubled
            details.append(f"{one.patient_id}: result series in the PACS {dict(stored)}")
        expected = {uid: data for uid, data in one.instances() if uid in acknowledged}
        kept: set[bytes] = set()
        for case in cases:
            kept |= {dataset_of((site.settings.received_dir / path).read_bytes()) for path in ledger.cases.instance_paths(case)}
        missing = [uid for uid, data in expected.items() if dataset_of(data) not in kept]
        lost += len(missing)
        if missing:
            details.append(f"{one.patient_id}: {len(missing)} acknowledged instances are in no case")
    return {
        "lost": lost,
        "partial": partial,
        "duplicate": duplicate,
        "states": dict(states),
        "reasons": dict(reasons),
        "details": details,
    }


def alerts_about(mailbox: Mailbox, case: Case) -> int:
    """Number of mails about the case that the stroke team was sent."""
    return sum(
        ALERT_TO in to and case.case_id in str(mail["Subject"]) for mail, to in zip(mailbox.mails, mailbox.recipients, strict=False)
    )


def dataset_of(data: bytes) -> bytes:
    """Bytes after the meta header, which the receiver writes itself (PS3.10 7.1)."""
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


if __name__ == "__main__":
    main()
