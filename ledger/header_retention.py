"""Header retention: what the headers of a series say is cleared from the ledger when retention has removed all of its files.

Study and series descriptions may hold a name, and the header of an image takes 2.5 kB. The identifiers stay: a series that is sent
again is recognised by them, and its headers are recorded again.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import exists, func, select, update

from ledger.database import Database
from ledger.single_file_cases import OnDisk
from ledger.tables import cases, instances

KEPT: Final = ("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "series_uid", "study_uid")
"""Fields of `corewatch.instance.Instance` that stay."""


class HeaderRetention:
    """Clears headers. Used by the daemon alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cleared: set[str] = set()

    def clear(self, on_disk: OnDisk) -> int:
        """Clear the headers of every series without files; returns how many series were cleared. May be repeated at any time."""
        return sum(self._clear(series_uid, on_disk) for series_uid in self._without_files())

    def _without_files(self) -> list[str]:
        """Series all of whose cases have no files any more, and that were not looked at since they lost them."""
        with self._database.reading() as connection:
            here = cases.alias()
            rest = exists().where(here.c.series_uid == cases.c.series_uid, here.c.files_removed.is_(False))
            found = connection.scalars(
                select(cases.c.series_uid).where(cases.c.files_removed, cases.c.series_uid.is_not(None), ~rest).distinct()
            )
            series = {str(uid) for uid in found}
        self._cleared &= series
        return sorted(series - self._cleared)

    def _clear(self, series_uid: str, on_disk: OnDisk) -> bool:
        with self._database.transaction() as connection:
            here = select(func.count()).where(cases.c.series_uid == series_uid, cases.c.files_removed.is_(False))
            if connection.scalar(here):
                return False  # received again meanwhile
            rows = connection.execute(
                select(instances.c.sop_instance_uid, instances.c.path, instances.c.header).where(
                    instances.c.series_uid == series_uid
                )
            ).all()
            if any(on_disk(row.path) for row in rows):
                return False  # sent again after its case had its result: an operator can have it analysed
            full = [row for row in rows if set(row.header) != set(KEPT)]
            for row in full:
                kept = {name: row.header.get(name, "") for name in KEPT}
                connection.execute(
                    update(instances).where(instances.c.sop_instance_uid == row.sop_instance_uid).values(header=kept)
                )
        self._cleared.add(series_uid)
        return bool(full)
