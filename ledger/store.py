"""The ledger: one database with the state of every arrival, case and delivery."""

from __future__ import annotations

from typing import Any

from corewatch.clock import Clock, utc_now
from corewatch.waiting import WaitingCase
from ledger.alerts import Alerts
from ledger.audit_trail import AuditTrail, record
from ledger.cases import Cases
from ledger.change_feed import ChangeFeed
from ledger.clock_shift import ClockShift
from ledger.commitment_requests_received import CommitmentRequestsReceived
from ledger.commitment_requests_sent import CommitmentRequestsSent
from ledger.database import QUEUE_LEASE_S, Database
from ledger.deliveries import Deliveries
from ledger.digests import Digests
from ledger.figures import LedgerFigures, ledger_figures
from ledger.header_retention import HeaderRetention
from ledger.intake import Intake
from ledger.mail_receipts import MailReceipts
from ledger.operator_actions import OperatorActions
from ledger.outbox import Outbox
from ledger.portal_sessions import PortalSessions, SignInFailures
from ledger.portal_tokens import PortalTokens
from ledger.single_file_cases import SingleFileCases
from ledger.stored_objects import StoredObjects
from ledger.users import Users
from ledger.waiting_cases import waiting_cases
from ledger.worklist import Worklist


class Ledger:
    """Opens the database, migrates and verifies its tables, and holds an object for each part of it.

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
    intake, single_file_cases
        Arrivals and instances; files that are no instance of a series.
    cases, deliveries
        States and transitions.
    changes
        Changes of cases as they are written to the audit trail.
    worklist
        Cases as their readers need them, a page at a time.
    operator_actions
        What an operator makes a case do.
    alerts
        Positive findings, who has acknowledged them, and their escalation.
    mail_receipts, digests
        Which recipient has which mail; many cases in one mail.
    stored_objects
        Which objects of a case an archive has.
    commitment_requests_sent, commitment_requests_received
        Storage commitment.
    outbox
        Work that waits for the broker.
    audit_trail
        The audit trail: read, exported, forwarded.
    users, portal_sessions, portal_tokens, sign_in_failures
        Who may use the portal.
    header_retention
        Clears the headers of series whose files retention has removed.
    clock_shift
        Moves leases and waits when the system's clock was set.
    """

    def __init__(self, url: str, clock: Clock = utc_now, lease_s: float = QUEUE_LEASE_S) -> None:
        self.clock = clock
        self._database = Database(url, clock, lease_s)
        self.intake = Intake(self._database)
        self.single_file_cases = SingleFileCases(self._database)
        self.header_retention = HeaderRetention(self._database)
        self.cases = Cases(self._database)
        self.deliveries = Deliveries(self._database)
        self.operator_actions = OperatorActions(self._database)
        self.mail_receipts = MailReceipts(self._database)
        self.alerts = Alerts(self._database)
        self.changes = ChangeFeed(self._database)
        self.worklist = Worklist(self._database)
        self.digests = Digests(self._database)
        self.stored_objects = StoredObjects(self._database)
        self.commitment_requests_sent = CommitmentRequestsSent(self._database)
        self.commitment_requests_received = CommitmentRequestsReceived(self._database)
        self.outbox = Outbox(self._database)
        self.audit_trail = AuditTrail(self._database)
        self.users = Users(self._database)
        self.portal_sessions = PortalSessions(self._database)
        self.portal_tokens = PortalTokens(self._database)
        self.sign_in_failures = SignInFailures(self._database)
        self.clock_shift = ClockShift(self._database)

    def note(self, event: str, case_id: str | None = None, **detail: Any) -> None:
        """Append one line to the audit trail; JSON types only, free of patient data."""
        with self._database.transaction() as connection:
            record(connection, self.clock(), event, case_id, **detail)

    def waiting_cases(self) -> list[WaitingCase]:
        """Every case that has not ended, and since when it waits (see `ledger.waiting_cases`)."""
        return waiting_cases(self._database)

    def figures(self) -> LedgerFigures:
        """Counts, ages and waits for monitoring (see `ledger.figures`)."""
        return ledger_figures(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
