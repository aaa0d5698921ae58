"""Taking a drop: its images become an arrival in the spool, durable before the original is moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from conversion.elements import read_header
from corewatch.arrival import ArrivalOutcome
from corewatch.errors import NotAnalysed
from daemon.intake.truncation import cut_short
from daemon.watch.content import AlignedFile, InstanceFile, LeftOut, may_be_of_use, read_content, size_problem, unknown_reason
from daemon.watch.dicomdir import LARGEST_INDEX_BYTES, count_missing, is_index, missing_reason, referenced_files
from daemon.watch.limits import LIMITS, DropLimits
from daemon.watch.members import DropIncomplete, DropRejected, Member, members, open_entry, read_file
from daemon.watch.recipients import LARGEST_RECIPIENTS_BYTES, is_recipients, read_recipients
from daemon.watch.scan import Drop, EntryKind
from ledger.spool import ArrivalWriter

INDEX_ONLY = "It is the index of a CD without its images; drop the whole CD as one folder or zip."

CUT_SHORT = "A file ends before its pixel data does: it was not copied completely."

CHECKED_FOR_THEIR_END = 32
"""Files of a drop that are looked at before it is taken. What is still being copied is among those that were changed last."""

OpenArrival = Callable[[Sequence[str]], ArrivalWriter]
"""Opens an arrival for these recipients."""


@dataclass(frozen=True, slots=True)
class TakingRules:
    """How drops are taken.

    Attributes
    ----------
    limits
        What is read of them.
    domains
        Those that their recipients files may name.
    """

    limits: DropLimits = LIMITS
    domains: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class TakenDrop:
    """What became of a drop that was taken.

    Attributes
    ----------
    arrivals
        Ids of the arrivals it became: one for all its instances, one for each aligned head.
    duplicates
        Instances that were in it twice, byte for byte.
    left_out
        Files that were not taken.
    """

    arrivals: tuple[str, ...]
    instances: int
    duplicates: int
    aligned: int
    left_out: tuple[LeftOut, ...]


def take(drops: Iterable[Drop], open_arrival: OpenArrival, rules: TakingRules, *, final: bool) -> TakenDrop:
    """Store everything of use in `drops` as one arrival (aligned heads as one each) and close it.

    Opens an arrival only once there is something to store. When it returns, all is durable and the originals may be moved. A crash
    before they are moved means that the same bytes are taken once more: the same instances in a second arrival, which the ledger
    recognises as duplicates.

    Parameters
    ----------
    final
        Take it although files are missing that its index names, or one is cut short; otherwise `DropIncomplete` says so, before
        anything is stored.

    Raises
    ------
    DropRejected
        There is nothing of use in it, or it is a zip that cannot be trusted.
    DropChanged
        It changed while it was read; what was stored is closed as aborted.
    OSError
        The spool cannot be written; likewise.
    """
    in_order = sorted(drops, key=lambda d: not is_recipients(d.name))
    if not final:
        for drop in in_order:
            _check_media(drop)
        _check_last_files(in_order, rules.limits.instance_bytes)
    taking = _Taking(open_arrival, rules)
    try:
        for drop in in_order:
            for member in members(drop, rules.limits):
                taking.add(member)
        return taking.finish()
    except BaseException:
        taking.abort()
        raise


def _check_media(drop: Drop) -> None:
    """Raise `DropIncomplete` where a dropped medium lacks files that its index names."""
    if not drop.is_folder:
        return
    for entry in drop.entries:
        if is_index(entry.name) and entry.kind is EntryKind.FILE and entry.size <= LARGEST_INDEX_BYTES:
            try:
                index = read_file(entry)
            except PermissionError:
                continue  # it is left out with its reason, as any other file that may not be read
            missing = count_missing(referenced_files(entry.name, index), (e.name for e in drop.entries))
            if missing:
                raise DropIncomplete(missing_reason(missing))


def _check_last_files(drops: Iterable[Drop], largest: int) -> None:
    """Raise `DropIncomplete` where an image among the files that were changed last is cut short: its copy has paused."""
    files = [(e, d.name) for d in drops for e in d.entries if e.kind is EntryKind.FILE and e.size <= largest]
    for entry, drop in sorted(files, key=lambda f: f[0].mtime_ns)[-CHECKED_FOR_THEIR_END:]:
        try:
            with open_entry(entry) as stream:
                same = Path(f"/proc/self/fd/{stream.fileno()}")  # what was opened, whatever bears that name by now
                unfinished = cut_short(same, read_header(same, []))
        except (NotAnalysed, PermissionError):
            continue  # no DICOM, or nothing that may be read: it is judged when it is taken
        if unfinished:
            raise DropIncomplete(CUT_SHORT, drop)


class _Taking:
    """The state of one `take`."""

    def __init__(self, open_arrival: OpenArrival, rules: TakingRules) -> None:
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
        elif is_recipients(member.name) and member.size > LARGEST_RECIPIENTS_BYTES:
            self._left_out.append(LeftOut(member.name, "It is too long for a list of recipients."))
        elif is_recipients(member.name):
            read = read_recipients(member.read(), self._rules.domains)
            self._recipients += [a for a in read.addresses if a not in self._recipients]
            self._left_out += [LeftOut(member.name, p) for p in read.problems]
        elif not may_be_of_use(member.name, member.head):
            # not read whole: a film of many gigabytes may lie beside the images
            self._left_out.append(LeftOut(member.name, unknown_reason(member.name, member.head)))
        elif (problem := size_problem(member.name, member.size, self._rules.limits)) is not None:
            self._left_out.append(LeftOut(member.name, problem))
        else:
            self._add_content(read_content(member.name, member.read()))

    def finish(self) -> TakenDrop:
        if self._writer is not None:
            self._writer.close(ArrivalOutcome.RELEASED)
        missing = {name: count_missing(files, self._seen) for name, files in self._indexes.items()}
        self._left_out += [LeftOut(name, missing_reason(count)) for name, count in missing.items() if count]
        if not self._arrivals:
            raise DropRejected(INDEX_ONLY if self._indexes else _common_reason(self._left_out), self._left_out)
        return TakenDrop(tuple(self._arrivals), self._instances, self._duplicates, self._aligned, tuple(self._left_out))

    def abort(self) -> None:
        if self._writer is not None and self._arrivals:
            # a disk that is full refuses this too; the arrival then ends by idle time
            with suppress(OSError):
                self._writer.close(ArrivalOutcome.ABORTED)

    def _is_index(self, member: Member) -> bool:
        if not is_index(member.name) or member.size > LARGEST_INDEX_BYTES:
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
            writer.store_aligned([content.data])
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
