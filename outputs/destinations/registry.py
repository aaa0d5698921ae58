"""All destinations out of their parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from outputs.destinations.base import Destination
from outputs.destinations.dicomweb import DicomwebDestination, DicomwebParameters
from outputs.destinations.email import EmailDestination, EmailParameters, OperatorsDestination
from outputs.destinations.escalation import EscalationDestination
from outputs.destinations.folder import FolderDestination, FolderParameters
from outputs.destinations.pacs import PacsDestination, PacsParameters
from outputs.destinations.receipts import Receipts
from outputs.destinations.webhook import WebhookDestination, WebhookNotices, WebhookParameters


@dataclass(frozen=True, slots=True)
class DestinationParameters:
    """Everything that results are delivered to."""

    pacs: tuple[PacsParameters, ...] = ()
    dicomweb: tuple[DicomwebParameters, ...] = ()
    folder: FolderParameters | None = None
    email: EmailParameters | None = None
    webhook: WebhookParameters | None = None
    escalation: tuple[tuple[str, ...], ...] = ()
    """Recipients of each level; needs `email`."""


def build_destinations(
    parameters: DestinationParameters,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    receipts: Receipts | None = None,
) -> dict[str, Destination]:
    """The destinations by name, in the order in which a result is brought to them: what alerts people comes first.

    That is ``email``, ``operators`` (no result), ``escalation-1`` and so on, ``webhook``, ``webhook-notices`` (no result), each
    PACS and archive under its own name, ``folder``.

    Parameters
    ----------
    receipts
        Where it is remembered who has which mail; None: for as long as the destinations live.

    Raises
    ------
    ValueError
        If two destinations have the same name.
    """
    built: list[Destination] = []
    if parameters.email is not None:
        kinds = (EmailDestination, OperatorsDestination)
        built += [kind(parameters.email, clock, receipts) for kind in kinds]
        built += [
            EscalationDestination(level, to, parameters.email, clock, receipts)
            for level, to in enumerate(parameters.escalation, start=1)
        ]
    if parameters.webhook is not None:
        built.append(WebhookDestination(parameters.webhook, clock))
        if parameters.webhook.not_analysed:
            built.append(WebhookNotices(parameters.webhook, clock))
    built += [PacsDestination(pacs, clock) for pacs in parameters.pacs]
    built += [DicomwebDestination(archive, clock) for archive in parameters.dicomweb]
    if parameters.folder is not None:
        built.append(FolderDestination(parameters.folder, clock))
    by_name = {destination.name: destination for destination in built}
    if len(by_name) != len(built):
        raise ValueError("two destinations have the same name")
    return by_name
