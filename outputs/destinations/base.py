"""The interface of a destination, what destinations are built with, and how a module declares its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from config.delivery import DeliverSettings, DestinationSection
from corewatch.stored_objects import NoStoredObjects, StoredObjectRecord
from outputs.case import ReportedCase
from outputs.mail.receipts import MailReceipts, MemoryMailReceipts


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that was accepted.

    Attributes
    ----------
    detail
        For the audit trail: what was sent where, free of patient data.
    at
        When it was accepted, aware of its zone.
    """

    detail: str
    at: datetime


class Destination(Protocol):
    """A place that results are delivered to.

    Delivering the same case again must leave the destination as it was: a worker may be killed between the delivery and its record.
    """

    @property
    def name(self) -> str:
        """Name in the ledger, in task arguments and in logs."""

    @property
    def server(self) -> str | None:
        """The server that a delivery waits for, as messages name it; None: there is none."""

    @property
    def must_not_wait(self) -> bool:
        """Whether it alerts people, so that its deliveries never wait for a free process or for other servers."""

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Why the case is not delivered here; None: it is."""

    def deliver(self, case: ReportedCase) -> Delivered:
        """Deliver.

        Raises
        ------
        NoAnswer
            Its server cannot be reached, or has stopped answering.
        RetryLater
            Another passing fault.
        OperatorNeeded
            Retrying cannot help before a person has changed something.
        DeliveryWithdrawn
            It is no longer wanted.
        """

    def check(self) -> None:
        """Connection test: returns if a delivery could be made now, and delivers nothing.

        Raises
        ------
        CorewatchError
            What is wrong, and its remedy.
        """


def utc_clock() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class DestinationContext:
    """What destinations are built with besides their own settings. The defaults serve connection tests.

    Attributes
    ----------
    listener_ae_title
        AE title of our own Storage SCP, by which a PACS knows us unless its settings give another.
    receipts
        Where it is recorded which recipient has which mail.
    thread_key
        Key of the hash that gathers the mails of a study (`outputs.mail.case_mail.thread_id`).
    link
        (case id, name of the recipients' list) -> address of the case's page in the portal.
    stored
        Where it is recorded which archive has which object.
    attempt_s
        Seconds after which an attempt at an archive begins no further object: the next attempt goes on there.
    """

    listener_ae_title: str = "COREWATCH"
    clock: Callable[[], datetime] = utc_clock
    receipts: MailReceipts = field(default_factory=MemoryMailReceipts)
    thread_key: bytes = b""
    link: Callable[[str, str], str] | None = None
    stored: StoredObjectRecord = field(default_factory=NoStoredObjects)
    attempt_s: float = 60.0


@dataclass(frozen=True, slots=True)
class DestinationKind:
    """One kind of destination. Its module has it under the name `KIND`, where `registry` finds it.

    Attributes
    ----------
    section
        Class of its settings; its `turn` says when a result is delivered to it.
    build
        Makes the destinations of this kind that the settings name.
    """

    section: type[DestinationSection]
    build: Callable[[DeliverSettings, DestinationContext], Iterable[Destination]]
