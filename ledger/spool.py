"""The spool of arrived images: `received/<arrival_id>/`, one folder per arrival.

    writer.lock                       held while the writing program lives (made first, removed at the end)
    arrival.json                      who sent, which way (written before any instance)
    <uid hash>-<content hash>.dcm     one file per instance, named by hashes: a UID from outside never becomes a path
    aligned.nii.gz                    instead of instances, when an already aligned head was dropped
    closed.json                       the arrival has ended (written last)

A listener or the watch folder writes through `ArrivalWriter`; the daemon reads. Files stay where they were stored until retention
removes the whole folder: nothing is moved, so nothing is lost between two names. The same bytes sent twice get the same name;
different bytes under one SOP Instance UID get two names, and the daemon reports the conflict. The content hash is made of the bytes
as they arrive, and the file gets its name last, after its fsync: a reader need not read the file again to know
its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from corewatch.arrival import Arrival, ArrivalOutcome, ArrivalSource, Closing
from corewatch.clock import Clock, utc_now
from corewatch.identity import new_case_id
from foundation.durable import PartialFile, create_durably, make_folders, sync_folder
from foundation.lock import LifeLock, holder_is_gone

ARRIVAL_FILE = "arrival.json"
CLOSED_FILE = "closed.json"
LOCK_FILE = "writer.lock"
ALIGNED_FILE = "aligned.nii.gz"
INSTANCE_SUFFIX = ".dcm"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One durable file of the spool: its path, the SHA-256 (hex) of its bytes, and whether it was there already."""

    path: Path
    sha256: str
    duplicate: bool


class ArrivalEnded(OSError):
    """The daemon has taken the arrival for abandoned: what is stored there from now on is not looked at."""


class ArrivalWriter:
    """Writes one arrival. Every method returns only when its effect survives a power loss.

    Not safe for use by several threads at once; each association has its own.
    """

    def __init__(self, folder: Path, clock: Clock, life: LifeLock) -> None:
        self.folder = folder
        self._clock = clock
        self._life = life
        self._stored = 0

    @classmethod
    def open(
        cls,
        received_dir: Path,
        source: ArrivalSource,
        *,
        peer_ae_title: str = "",
        peer_host: str = "",
        email: Sequence[str] = (),
        clock: Clock = utc_now,
    ) -> ArrivalWriter:
        """Make the arrival's folder and write down who sends.

        Raises
        ------
        OSError
            The data folder cannot be written.
        """
        arrival_id = f"{clock():%Y%m%dT%H%M%S}-{new_case_id()}"
        folder = received_dir / arrival_id
        make_folders(received_dir)
        folder.mkdir()
        sync_folder(received_dir)
        record = {
            "arrival_id": arrival_id,
            "source": str(source),
            "opened_at": clock().isoformat(),
            "peer_ae_title": peer_ae_title,
            "peer_host": peer_host,
            "email": list(email),
        }
        life: LifeLock | None = None
        try:
            # before the record, with which the daemon begins to look
            life = LifeLock(folder / LOCK_FILE)
            create_durably(folder / ARRIVAL_FILE, [json.dumps(record).encode()])
        except OSError:
            if life is not None:
                life.release()
            folder.rmdir()  # a full disk must not be answered with one folder per image
            raise
        return cls(folder, clock, life)

    @property
    def ended(self) -> bool:
        """Whether the daemon has ended the arrival meanwhile: further images belong in another one."""
        return (self.folder / CLOSED_FILE).exists()

    def store_instance(self, sop_instance_uid: str, chunks: Sequence[bytes | memoryview]) -> StoredFile:
        """Store one DICOM file (preamble, meta header and dataset as `chunks`).

        Raises
        ------
        OSError
            Nothing was stored; the sender must get a failure status.
        """
        instance = self.begin_instance(sop_instance_uid)
        try:
            for chunk in chunks:
                instance.write(chunk)
        except BaseException:
            instance.discard()
            raise
        return instance.keep()

    def begin_instance(self, sop_instance_uid: str) -> IncomingInstance:
        """Begin to store one DICOM file that arrives piece by piece.

        Raises
        ------
        OSError
            The folder cannot be written.
        """
        uid_hash = hashlib.sha256(sop_instance_uid.encode()).hexdigest()[:20]
        return IncomingInstance(self.folder, uid_hash, self._count)

    def _count(self, stored: StoredFile) -> None:
        # asked when the file has its name: the daemon writes the end before it lists the folder for the last time, so that either
        # it has seen this file or we see the end
        if self.ended:
            raise ArrivalEnded("the daemon has ended the arrival")
        self._stored += not stored.duplicate

    def store_aligned(self, chunks: Sequence[bytes | memoryview]) -> StoredFile:
        """Store an already aligned head (the bytes of a `.nii.gz`); it is the only file of its arrival.

        Raises
        ------
        OSError
            Nothing was stored.
        """
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        path = self.folder / ALIGNED_FILE
        create_durably(path, chunks)
        self._stored += 1
        return StoredFile(path, digest.hexdigest(), duplicate=False)

    def close(self, outcome: ArrivalOutcome) -> None:
        """Write down that the arrival has ended; nothing is stored after that."""
        try:
            write_closing(self.folder, Closing(self._clock(), outcome, self._stored))
        finally:
            self._life.release()

    def abandon(self) -> None:
        """Stop writing without closing it; the daemon ends it, or has ended it."""
        self._life.abandon()


class IncomingInstance:
    """A DICOM file (preamble, meta header and dataset) while it arrives: hashed and written piece by piece, never held in memory.

    Raises
    ------
    OSError
        From every method: nothing was stored; the sender must get a failure status.
    """

    def __init__(self, folder: Path, uid_hash: str, count: Callable[[StoredFile], None]) -> None:
        self._folder = folder
        self._uid_hash = uid_hash
        self._count = count
        self._digest = hashlib.sha256()
        self._file = PartialFile(folder / f"{uid_hash}{INSTANCE_SUFFIX}")

    def write(self, chunk: bytes | memoryview) -> None:
        """Append a piece."""
        self._file.write(chunk)
        self._digest.update(chunk)

    def keep(self) -> StoredFile:
        """Store it: after return it survives a power loss."""
        content = self._digest.hexdigest()
        path = self._folder / f"{self._uid_hash}-{content}{INSTANCE_SUFFIX}"
        duplicate = path.exists()
        if duplicate:
            self._file.discard()
        else:
            self._file.keep_as(path)
        stored = StoredFile(path, content, duplicate)
        self._count(stored)
        return stored

    def discard(self) -> None:
        """Give it up: nothing is stored."""
        self._file.discard()


def read_arrival(folder: Path) -> Arrival | None:
    """Who sent; None where a crash left a folder before its record was written (it holds no acknowledged image then)."""
    try:
        data = json.loads((folder / ARRIVAL_FILE).read_bytes())
    except FileNotFoundError:
        return None
    return Arrival(
        arrival_id=data["arrival_id"],
        source=ArrivalSource(data["source"]),
        opened_at=datetime.fromisoformat(data["opened_at"]),
        peer_ae_title=data["peer_ae_title"],
        peer_host=data["peer_host"],
        email=tuple(data["email"]),
    )


def read_closing(folder: Path) -> Closing | None:
    """How it ended, or None while it is still open (or its program died: the daemon then uses the idle time)."""
    try:
        data = json.loads((folder / CLOSED_FILE).read_bytes())
    except FileNotFoundError:
        return None
    return Closing(datetime.fromisoformat(data["closed_at"]), ArrivalOutcome(data["outcome"]), data["stored"])


def write_closing(folder: Path, closing: Closing) -> None:
    """Write down how an arrival ended.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    record = {"closed_at": closing.closed_at.isoformat(), "outcome": str(closing.outcome), "stored": closing.stored}
    create_durably(folder / CLOSED_FILE, [json.dumps(record).encode()])


def writer_is_gone(folder: Path) -> bool:
    """Whether the program that wrote an arrival ended before it could close it. False where that is unknown."""
    return holder_is_gone(folder / LOCK_FILE)


def instance_files(folder: Path) -> list[Path]:
    """The whole instances stored so far, in no particular order; files still being written are left out."""
    return [p for p in folder.iterdir() if p.suffix == INSTANCE_SUFFIX]


def named_digest(path: Path) -> str:
    """The content hash in the name of an instance's file: SHA-256 (hex), of files of earlier releases its first digits only."""
    return path.stem.rpartition("-")[2]


def aligned_file(folder: Path) -> Path | None:
    """The already aligned head of this arrival, if that is what was dropped."""
    path = folder / ALIGNED_FILE
    return path if path.exists() else None
