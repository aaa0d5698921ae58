"""Taking a drop: its images become an arrival in the spool, durable before the original is moved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from corewatch.arrival import ArrivalOutcome
from daemon.watch_content import AlignedFile, InstanceFile, LeftOut, may_be_of_use, read_content, size_problem, unknown_reason
from daemon.watch_members import DropRejected, Member, is_recipients, members
from daemon.watch_scan import Drop
from ledger.spool import ArrivalWriter

_ADDRESS = re.compile(r"[^@\s,;:<>\"()\[\]\\]{1,64}@[A-Za-z0-9.-]{1,255}")
MOST_RECIPIENTS = 20
LARGEST_RECIPIENTS_BYTES = 64 * 1024

OpenArrival = Callable[[Sequence[str]], ArrivalWriter]
"""Opens an arrival for these recipients."""


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


def take(drops: Iterable[Drop], open_arrival: OpenArrival) -> TakenDrop:
    """Store everything of use in `drops` as one arrival (aligned heads as one each) and close it.

    Opens an arrival only once there is something to store. When it returns, all is durable and the originals may be moved. A crash
    before they are moved means that the same bytes are taken once more: the same instances in a second arrival, which the ledger
    recognises as duplicates.

    Raises
    ------
    DropRejected
        There is nothing of use in it, or it is a zip that cannot be trusted.
    DropChanged
        It changed while it was read; what was stored is closed as aborted.
    OSError
        The spool cannot be written; likewise.
    """
    taking = _Taking(open_arrival)
    try:
        for drop in drops:
            for member in members(drop):
                taking.add(member)
        return taking.finish()
    except BaseException:
        taking.abort()
        raise


class _Taking:
    """The state of one `take`."""

    def __init__(self, open_arrival: OpenArrival) -> None:
        self._open_arrival = open_arrival
        self._recipients: list[str] = []
        self._writer: ArrivalWriter | None = None
        self._arrivals: list[str] = []
        self._left_out: list[LeftOut] = []
        self._instances = self._duplicates = self._aligned = 0

    def add(self, member: Member | LeftOut) -> None:
        if isinstance(member, LeftOut):
            self._left_out.append(member)
        elif is_recipients(member.name) and member.size > LARGEST_RECIPIENTS_BYTES:
            self._left_out.append(LeftOut(member.name, "It is too long for a list of recipients."))
        elif is_recipients(member.name):
            addresses, problems = read_recipients(member.read())
            self._recipients += [a for a in addresses if a not in self._recipients]
            self._left_out += [LeftOut(member.name, p) for p in problems]
        elif not may_be_of_use(member.name, member.head):
            # not read whole: a film of many gigabytes may lie beside the images
            self._left_out.append(LeftOut(member.name, unknown_reason(member.name)))
        elif (problem := size_problem(member.name, member.size)) is not None:
            self._left_out.append(LeftOut(member.name, problem))
        else:
            self._add_content(read_content(member.name, member.read()))

    def finish(self) -> TakenDrop:
        if self._writer is not None:
            self._writer.close(ArrivalOutcome.RELEASED)
        if not self._arrivals:
            raise DropRejected(_common_reason(self._left_out), self._left_out)
        return TakenDrop(tuple(self._arrivals), self._instances, self._duplicates, self._aligned, tuple(self._left_out))

    def abort(self) -> None:
        if self._writer is not None and self._arrivals:
            # a disk that is full refuses this too; the arrival then ends by idle time
            with suppress(OSError):
                self._writer.close(ArrivalOutcome.ABORTED)

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


def read_recipients(data: bytes) -> tuple[list[str], list[str]]:
    """Return the addresses in a recipients file, one a line, and what is wrong with the other lines.

    Empty lines and lines that begin with `#` do not count.
    """
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    addresses = [line for line in lines if _ADDRESS.fullmatch(line)]
    problems = [f"{len(lines) - len(addresses)} of its lines are not e-mail addresses."] if len(addresses) < len(lines) else []
    if len(addresses) > MOST_RECIPIENTS:
        problems.append(f"Only its first {MOST_RECIPIENTS} addresses are used.")
    return addresses[:MOST_RECIPIENTS], problems


def _common_reason(left_out: Sequence[LeftOut]) -> str:
    reasons = sorted({item.reason for item in left_out})
    if len(reasons) == 1:
        return reasons[0] if len(left_out) == 1 else f"Nothing in it could be taken. {reasons[0]}"
    return "Nothing in it could be taken: it holds no DICOM image and no aligned head."
