"""What every destination is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from corewatch.errors import CorewatchError
from outputs.case import ReportedCase


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that was accepted.

    Attributes
    ----------
    detail
        For the audit trail: what went where, free of patient data.
    at
        When it was accepted, aware of its zone.
    """

    detail: str
    at: datetime


class NothingToDeliver(CorewatchError):
    """The delivery is no longer wanted: an alert was acknowledged while its escalation was on the way."""


class Destination(Protocol):
    """A place that results are delivered to.

    Delivering the same case again must leave the destination as it was: a worker may die between the delivery and its record.
    """

    @property
    def name(self) -> str:
        """Name in the ledger, in task arguments and in logs."""

    @property
    def server(self) -> str | None:
        """The server that a delivery waits for, named as people are told of it; None: there is none."""

    def skip_reason(self, case: ReportedCase) -> str | None:
        """None if the case is to be delivered here, else the reason to skip it."""

    def deliver(self, case: ReportedCase) -> Delivered:
        """Deliver.

        Raises
        ------
        NoAnswer
            Its server is not there, or says no more.
        RetryLater
            Another passing fault.
        OperatorNeeded
            Trying again cannot help before a person has changed something.
        NothingToDeliver
            It is no longer wanted.
        """

    def check(self) -> None:
        """Connection test: returns if a delivery could be made now, and delivers nothing.

        Raises
        ------
        CorewatchError
            What is wrong, and its remedy.
        """
