"""Ingest of a drop: its instances become an arrival in the spool, durable before the original is moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from conversion.elements import damage_is_unreadable, integer, read_header
from conversion.headers import INSTANCE_TAGS, instance_of
from conversion.truncation import is_truncated
from corewatch.arrival import ArrivalOutcome
from corewatch.errors import NotAnalysed
from corewatch.selection import Rule
from daemon.watch.content import AlignedFile, InstanceFile, LeftOut, may_be_useful, not_dicom_reason, read_content, size_problem
from daemon.watch.copy_checks import DroppedImage, broken_off
from daemon.watch.dicomdir import MAX_INDEX_BYTES, count_missing, is_index, missing_reason, referenced_files
from daemon.watch.members import DropIncomplete, DropRejected, Member, members, open_entry, read_file
from daemon.watch.recipients import MAX_RECIPIENTS_BYTES, is_recipients, read_recipients
from daemon.watch.scan import DEFAULT_LIMITS, Drop, DropLimits, EntryKind
from ledger.spool import ArrivalWriter

INDEX_ONLY = "It is the index of a CD without its images; drop the whole CD as one folder or zip."
TRUNCATED = "A file ends before its pixel data does: it was not copied completely."
CHECKED_FOR_TRUNCATION = 32
"""Files of a drop that are checked before it is ingested. A file that is still being copied is among the last modified ones."""

IMAGES_IN_ACQUISITION = 0x00201002

OpenArrival = Callable[[Sequence[str]], ArrivalWriter]
"""Opens an arrival for these recipients."""


@dataclass(frozen=True, slots=True)
class IngestRules:
    """What is allowed in a drop.

    Attributes
    ----------
    limits
        Of what is read of a drop.
    recipients
        Domains and addresses that a recipients file may name.
    series
        Rules that select series: only those that may be analysed are checked for missing slices.
    """

    limits: DropLimits = DEFAULT_LIMITS
    recipients: frozenset[str] = field(default_factory=frozenset)
    series: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What was stored of a drop, and what was left out.

    Attributes
    ----------
    arrivals
        Ids of the arrivals: one for all its instances, one for each aligned head.
    duplicates
        Instances that were in it twice, byte for byte.
    left_out
        Files that were not stored.
    """

    arrivals: tuple[str, ...]
    instances: int
    duplicates: int
    aligned: int
    left_out: tuple[LeftOut, ...]


def ingest(drops: Iterable[Drop], open_arrival: OpenArrival, rules: IngestRules, *, final: bool) -> IngestSummary:
    """Store everything useful in `drops` as one arrival (aligned heads as one each) and close it.

    An arrival is opened only when there is something to store. On return everything is durable and the originals may be moved.
    After a crash before they are moved the same bytes are ingested again: a second arrival with the same instances, which the
    ledger recognises as duplicates.

    Parameters
    ----------
    final
        Ingest although files are missing that the DICOMDIR names, or one is truncated. Otherwise that raises `DropIncomplete`
        before anything is stored.

    Raises
    ------
    DropRejected
        There is nothing useful in it, or it is a zip that cannot be trusted.
    DropChanged
        It changed while it was read; what was stored is closed as aborted.
    OSError
        The spool cannot be written; likewise.
    """
    in_order = sorted(drops, key=lambda d: not is_recipients(d.name))
    if not final:
        for drop in in_order:
            _check_medium_complete(drop)
        _check_last_files(in_order, rules.limits.instance_bytes)
        _check_slices(in_order, rules)
    store = _DropStore(open_arrival, rules)
    try:
        for drop in in_order:
            for member in members(drop, rules.limits):
                store.add(member)
        return store.finish()
    except BaseException:
        store.abort()
        raise


def _check_medium_complete(drop: Drop) -> None:
    """Raise `DropIncomplete` where a dropped CD or DVD lacks files that its DICOMDIR names."""
    if not drop.is_folder:
        return
    for entry in drop.entries:
        if is_index(entry.name) and entry.kind is EntryKind.FILE and entry.size <= MAX_INDEX_BYTES:
            try:
                index = read_file(entry)
            except PermissionError:
                continue  # it is left out with its reason, like any other file without read permission
            missing = count_missing(referenced_files(entry.name, index), (e.name for e in drop.entries))
            if missing:
                raise DropIncomplete(missing_reason(missing))


def _check_last_files(drops: Iterable[Drop], max_bytes: int) -> None:
    """Raise `DropIncomplete` where an instance among the last modified files is truncated: its copy has paused."""
    files = [(e, d.name) for d in drops for e in d.entries if e.kind is EntryKind.FILE and e.size <= max_bytes]
    for entry, drop in sorted(files, key=lambda f: f[0].mtime_ns)[-CHECKED_FOR_TRUNCATION:]:
        try:
            with open_entry(entry) as stream:
                opened = Path(f"/proc/self/fd/{stream.fileno()}")  # the file that was opened, even if its name was reused since
                truncated = is_truncated(opened, read_header(opened, []))
        except (NotAnalysed, PermissionError):
            continue  # no DICOM, or no read permission: it is judged when it is ingested
        if truncated:
            raise DropIncomplete(TRUNCATED, drop)


def _check_slices(drops: Iterable[Drop], rules: IngestRules) -> None:
    """Raise `DropIncomplete` where a head series lacks slices by its own headers: its copy has probably paused."""
    files = [e for d in drops for e in d.entries if e.kind is EntryKind.FILE and e.size <= rules.limits.instance_bytes]
    images = []
    for entry in files if rules.series else ():
        try:
            with open_entry(entry) as stream:
                header = read_header(Path(f"/proc/self/fd/{stream.fileno()}"), [*INSTANCE_TAGS, IMAGES_IN_ACQUISITION])
                with damage_is_unreadable("its header cannot be read"):
                    images.append(DroppedImage(instance_of(header), integer(header.dataset, IMAGES_IN_ACQUISITION)))
        except (NotAnalysed, PermissionError):
            continue
    if (reason := broken_off(images, rules.series)) is not None:
        raise DropIncomplete(reason, certain=False)


class _DropStore:
    """Stores the members of one `ingest` call."""

    def __init__(self, open_arrival: OpenArrival, rules: IngestRules) -> None:
        self._open_arrival = open_arrival
        self._rules = rules
        self._seen: set[str] = set()
        self._indexes: dict[str, frozenset[str]] = {}
        self._recipients: list[str] = []
        self._writer: ArrivalWriter | None = None
        self._arrivals: list[str] = []
        self._left_out: list[LeftOut] = []
        self._instances = self._duplicates = self._aligned = 0

    def add(self, member: Member | LeftOut) -> None:
        self._seen.add(member.name)
        if isinstance(member, LeftOut):
            self._left_out.append(member)
        elif self._is_index(member):
            return
        elif is_recipients(member.name) and member.size > MAX_RECIPIENTS_BYTES:
            self._left_out.append(LeftOut(member.name, "It is too long for a list of recipients."))
        elif is_recipients(member.name):
            read = read_recipients(member.read(), self._rules.recipients)
            self._recipients += [a for a in read.addresses if a not in self._recipients]
            self._left_out += [LeftOut(member.name, p) for p in read.problems]
        elif not may_be_useful(member.name, member.head):
            # not read completely: a film of many gigabytes may lie beside the images
            self._left_out.append(LeftOut(member.name, not_dicom_reason(member.name, member.head)))
        elif (problem := size_problem(member.name, member.size, self._rules.limits)) is not None:
            self._left_out.append(LeftOut(member.name, problem))
        else:
            self._add_content(read_content(member.name, member.read()))

    def finish(self) -> IngestSummary:
        if self._writer is not None:
            self._writer.close(ArrivalOutcome.RELEASED)
        missing = {name: count_missing(files, self._seen) for name, files in self._indexes.items()}
        self._left_out += [LeftOut(name, missing_reason(count)) for name, count in missing.items() if count]
        if not self._arrivals:
            raise DropRejected(INDEX_ONLY if self._indexes else _common_reason(self._left_out), self._left_out)
        return IngestSummary(tuple(self._arrivals), self._instances, self._duplicates, self._aligned, tuple(self._left_out))

    def abort(self) -> None:
        if self._writer is not None and self._arrivals:
            # a full disk refuses this too; the arrival then ends by idle time
            with suppress(OSError):
                self._writer.close(ArrivalOutcome.INTERRUPTED)

    def _is_index(self, member: Member) -> bool:
        if not is_index(member.name) or member.size > MAX_INDEX_BYTES:
            return False
        named = referenced_files(member.name, member.read())
        if named:
            self._indexes[member.name] = named
        return bool(named)

    def _add_content(self, content: InstanceFile | AlignedFile | LeftOut | None) -> None:
        if isinstance(content, LeftOut):
            self._left_out.append(content)
        elif isinstance(content, AlignedFile):
            writer = self._open_arrival(self._recipients)
            try:
                writer.store_aligned([content.data])
            except OSError:
                writer.abandon()
                raise
            writer.close(ArrivalOutcome.RELEASED)
            self._arrivals.append(writer.folder.name)
            self._aligned += 1
        elif content is not None:
            if self._writer is None:
                self._writer = self._open_arrival(self._recipients)
                self._arrivals.append(self._writer.folder.name)
            stored = self._writer.store_instance(content.sop_instance_uid, content.chunks)
            self._instances += not stored.duplicate
            self._duplicates += stored.duplicate


def _common_reason(left_out: Sequence[LeftOut]) -> str:
    reasons = sorted({item.reason for item in left_out})
    if len(reasons) == 1:
        return reasons[0] if len(left_out) == 1 else f"Nothing in it could be taken. {reasons[0]}"
    return "Nothing in it could be taken: it holds no DICOM image and no aligned head."
