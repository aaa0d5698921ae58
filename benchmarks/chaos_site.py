"""The site of the chaos test: series to bring, mail server, database, clock, disk, and the programs themselves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import psutil
import yaml
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from config import load_settings
from phantom.dicom_series import write_series
from phantom.head import HeadSpec, Side, make_head
from tests.support.mailbox import Mailbox
from tests.support.net import answers
from tests.support.postgres import Postgres, find_binaries
from tests.support.stubborn import Image

ROOT: Final = Path(__file__).resolve().parents[1]
ALERT_TO: Final = "stroke-team@hospital.example"
OPERATORS: Final = "pacs-admins@hospital.example"
TEMPLATE_LOCK: Final = threading.Lock()  # the senders share the data sets of the one head


@dataclass(frozen=True)
class PlannedSeries:
    """One series to bring: its UIDs, and its instances made when they are needed."""

    study_uid: str
    series_uid: str
    patient_id: str
    template: tuple[Dataset, ...] = field(repr=False)

    def instances(self) -> list[Image]:
        """SOP Instance UID and the bytes of the file, one per slice."""
        made: list[Image] = []
        with TEMPLATE_LOCK:
            for number, dataset in enumerate(self.template, start=1):
                dataset.StudyInstanceUID, dataset.SeriesInstanceUID = self.study_uid, self.series_uid
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{self.series_uid}.{number}"
                dataset.PatientID, dataset.PatientName = self.patient_id, f"Chaos^{self.patient_id}"
                buffer = BytesIO()
                dataset.save_as(buffer, enforce_file_format=True)
                made.append((f"{self.series_uid}.{number}", buffer.getvalue()))
        return made


def plan(folder: Path, cases: int, slices: int, seed: int) -> list[PlannedSeries]:
    """The series: one synthetic stroke head under the UIDs of many patients."""
    head = make_head(HeadSpec(seed=11, core_ml=90.0, side=Side.LEFT))
    write_series(head, folder, slices=slices, matrix=256)
    template = tuple(dcmread(path) for path in sorted(folder.iterdir()))
    lot = random.Random(seed)
    return [
        PlannedSeries(generate_uid(entropy_srcs=[f"study {seed} {n}"]), f"2.25.{lot.getrandbits(90)}", f"CHAOS-{n:04d}", template)
        for n in range(cases)
    ]


class TimedMailbox(Mailbox):
    """Mailbox that also notes when each mail was accepted."""

    def __init__(self) -> None:
        self.times: list[float] = []
        super().__init__()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 aiosmtpd's name
        """Keep one mail and its time."""
        answer = await super().handle_DATA(server, session, envelope)
        self.times.append(time.time())
        return answer

    def operators_since(self, moment: float) -> bool:
        """Whether the operators were mailed after this moment."""
        return any(OPERATORS in to and at >= moment for to, at in zip(self.recipients, self.times, strict=False))


class RestartablePostgres:
    """PostgreSQL that is killed and started again on the same cluster and port."""

    def __init__(self, folder: Path) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit("PostgreSQL is missing: run scripts/install-test-tools.sh")
        self._server = Postgres(binaries, folder)
        self.url = self._server.new_database("chaos")
        self._folder, self._binaries = folder, binaries

    def processes(self) -> list[psutil.Process]:
        """The postmaster and its children."""
        postmaster = psutil.Process(self._server._process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def kill(self, away_s: float) -> None:
        """SIGKILL to all, and a start after `away_s` seconds."""
        for process in self.processes():
            signal_to(process, signal.SIGKILL)
        self._server._process.wait()
        time.sleep(away_s)
        (self._folder / "cluster" / "postmaster.pid").unlink(missing_ok=True)
        self._server._process = subprocess.Popen(
            [
                str(self._binaries / "postgres"),
                "-D",
                str(self._folder / "cluster"),
                "-p",
                str(self._server.port),
                "-k",
                str(self._folder),
            ],
            stdout=self._server._log,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            **self._server._as_user(),
        )
        for _ in range(600):
            if answers(self._server.port):
                return
            time.sleep(0.1)
        raise SystemExit("PostgreSQL does not start again")

    def stop(self) -> None:
        """End the server."""
        self._server.stop()


class Clock:
    """Time of day of the programs, by a preloaded library (`shifted_clock.c`); the monotonic clock is left alone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._library, self._shift = folder / "shifted_clock.so", folder / "shift"
        self._shift.write_bytes(bytes(8))
        self.offset_s = 0
        source = Path(__file__).with_name("shifted_clock.c")
        compiler = shutil.which("cc")
        command = [str(compiler), "-shared", "-fPIC", "-O2", "-o", str(self._library), str(source), "-ldl"]
        self.works = compiler is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0

    @property
    def environment(self) -> dict[str, str]:
        """Variables that put the programs under this clock; none where the library cannot be compiled."""
        return {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK": str(self._shift)} if self.works else {}

    def jump(self, seconds: int) -> None:
        """Move the clock."""
        self.offset_s += seconds
        with self._shift.open("r+b") as file:  # the programs have mapped it
            file.write(struct.pack("=q", self.offset_s))


class Installation:
    """`corewatch up` of one tree or another, on the same data folder."""

    def __init__(self, folder: Path, settings: dict[str, Any], clock: Clock) -> None:
        self.folder, self._clock = folder, clock
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "corewatch.yaml"
        self.file.write_text(yaml.safe_dump(settings))
        self.settings = load_settings(self.file, {})
        self.port = settings["listener"]["port"]
        self.inbox = self.settings.watch.folders[0].path
        self.log = folder / "corewatch.log"
        self._out = self.log.open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, tree: Path) -> None:
        """Start all programs from this source tree and wait until the listener answers."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COREWATCH__")}
        environment |= {"PYTHONPATH": str(tree), **self._clock.environment}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "up", "--config", str(self.file)],
            cwd=tree,
            env=environment,
            stdout=self._out,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 180
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"corewatch up does not start:\n{self.tail()}")
            time.sleep(0.1)

    def family(self, name: str) -> list[psutil.Process]:
        """The processes of one program."""
        assert self.process is not None
        found: list[psutil.Process] = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            program, _, queue = name.partition("-")
            if name == "redis":
                mine = bool(command) and "redis-server" in command[0]
            else:
                mine = program in command and (not queue or queue in command)
            if mine:
                found.append(process)
        return found

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after three minutes."""
        assert self.process is not None
        for process in psutil.Process(self.process.pid).children(recursive=True):
            signal_to(process, signal.SIGCONT)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(180)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        """End of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


def signal_to(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        process.send_signal(number)
    except psutil.Error:
        return


@contextmanager
def limited_disk(folder: Path, size_gib: int) -> Iterator[bool]:
    """An ext4 file system of this size on `folder`; False where it cannot be mounted."""
    folder.mkdir(parents=True)
    image = folder.with_suffix(".img")
    try:
        with image.open("wb") as file:
            file.truncate(size_gib * 2**30)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def earlier_tree(revision: str | None, folder: Path) -> Iterator[Path]:
    """Source tree of an earlier revision; this tree without one."""
    if revision is None:
        yield ROOT
        return
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(folder), revision], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(folder)], check=False, capture_output=True)
