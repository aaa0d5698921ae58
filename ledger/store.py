"""The ledger: the truth about every arrival, case and delivery. Its rooms share one database."""

from __future__ import annotations

from typing import Any

from corewatch.clock import Clock, utc_now
from ledger.alerts import Alerts
from ledger.cases import Cases
from ledger.clockshift import ClockShift
from ledger.commitments_asked import CommitmentsAsked
from ledger.commitments_owed import CommitmentsOwed
from ledger.database import QUEUE_LEASE_S, Database, record
from ledger.deliveries import Deliveries
from ledger.digests import Digests
from ledger.intake import Intake
from ledger.letters import Letters
from ledger.outbox import Outbox
from ledger.singles import Singles
from ledger.trail import Trail


class Ledger:
    """Opens the database (and makes its tables) and holds the rooms.

    Parameters
    ----------
    url
        SQLAlchemy URL, see `ledger.database.Database`.
    clock
        Passed in, so that tests need no waiting.
    lease_s
        Seconds after which posted work that nobody has taken up is posted again.

    Attributes
    ----------
    intake, singles
        Arrivals and instances; files that are no instance of a series.
    cases, deliveries
        States and transitions.
    alerts
        Positive findings, who has acknowledged them, and their escalation.
    letters, digests
        Who has which mail; many cases in one mail.
    commitments_asked, commitments_owed
        Storage commitment that a PACS was asked for, and that we were asked for.
    outbox
        Work that waits for the broker.
    trail
        The audit trail as a whole.
    clock_shift
        What to do when the system's clock was set.
    """

    def __init__(self, url: str, clock: Clock = utc_now, lease_s: float = QUEUE_LEASE_S) -> None:
        self.clock = clock
        self._database = Database(url, clock, lease_s)
        self.intake = Intake(self._database)
        self.singles = Singles(self._database)
        self.cases = Cases(self._database)
        self.deliveries = Deliveries(self._database)
        self.letters = Letters(self._database)
        self.alerts = Alerts(self._database)
        self.digests = Digests(self._database)
        self.commitments_asked = CommitmentsAsked(self._database)
        self.commitments_owed = CommitmentsOwed(self._database)
        self.outbox = Outbox(self._database)
        self.trail = Trail(self._database)
        self.clock_shift = ClockShift(self._database)

    def note(self, event: str, case_id: str | None = None, **detail: Any) -> None:
        """Append one line to the audit trail; JSON types only, free of patient data."""
        with self._database.transaction() as connection:
            record(connection, self.clock(), event, case_id, **detail)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
