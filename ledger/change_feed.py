"""Changes of cases as they are written to the audit trail, each once, for live pages that resume where they stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, func, or_, select

from ledger.database import Database
from ledger.tables import audit

_SETTLED: Final = timedelta(seconds=60)
"""Once a line is older than this, a missing number before it belongs to a transaction that was rolled back."""

_KINDS: Final = ("case.", "alert.", "delivery.", "stage.", "assessment.")
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class CaseChange:
    """One line of the audit trail that changed what pages show of a case. Free of patient data.

    Attributes
    ----------
    cursor
        Number of a line: a reader who resumes after it misses nothing. It is the line's own number, or a
        lower one while a transaction may still write a line before.
    """

    cursor: int
    case_id: str
    event: str


@dataclass(slots=True)
class FeedPosition:
    """How far a reader is: every line up to `floor` is read, and those of `ahead`, before which lines are missing."""

    floor: int
    ahead: set[int] = field(default_factory=set)


class ChangeFeed:
    """Reading the feed. A position belongs to one reader, which uses it in one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """Number of the newest line; 0 where there is none."""
        with self._database.reading() as connection:
            return int(connection.scalar(select(func.max(audit.c.id))) or 0)

    def following(self, position: FeedPosition) -> list[CaseChange]:
        """Changes that the reader has not seen yet, and moves its position; at most a thousand lines at a time.

        A transaction of another program may still commit a line with a lower number. Later lines are delivered at once all the
        same, with a cursor before the gap, and the late line follows when it is there.
        """
        columns = (audit.c.id, audit.c.at, audit.c.case_id, audit.c.event)
        query = select(*columns).where(audit.c.id > position.floor).order_by(audit.c.id).limit(_BATCH + len(position.ahead))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        now = self._database.clock()
        known = frozenset(position.ahead)
        found = []
        for row in rows:
            _move(position, row.id, row.at, now)
            if row.id not in known and row.case_id is not None and row.event.startswith(_KINDS):
                found.append(CaseChange(position.floor, row.case_id, row.event))
        return found

    def since(self, cursor: int, limit: int = _BATCH) -> list[CaseChange] | None:
        """Changes after a cursor, for a reader who comes back; None: too many, or the cursor is none of this ledger's."""
        wanted: ColumnElement[bool] = or_(*(audit.c.event.startswith(kind) for kind in _KINDS))
        query = select(audit.c.id, audit.c.case_id, audit.c.event).where(audit.c.id > cursor, audit.c.case_id.is_not(None), wanted)
        with self._database.reading() as connection:
            newest = int(connection.scalar(select(func.max(audit.c.id))) or 0)
            rows = connection.execute(query.order_by(audit.c.id).limit(limit + 1)).all()
        if cursor > newest or len(rows) > limit:
            return None
        return [CaseChange(row.id, row.case_id, row.event) for row in rows]


def _move(position: FeedPosition, line: int, at: datetime, now: datetime) -> None:
    """Note that a line was read; the floor rises over it where none before it can still appear."""
    if line <= position.floor:
        return
    if line == position.floor + 1 or now - at >= _SETTLED:
        position.floor = line
        while position.floor + 1 in position.ahead:
            position.floor += 1
        position.ahead = {number for number in position.ahead if number > position.floor}
    else:
        position.ahead.add(line)
