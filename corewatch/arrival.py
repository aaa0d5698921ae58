"""Arrivals: one DICOM association, or one drop into a watched folder, that brings instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ArrivalSource(StrEnum):
    """How the instances were received."""

    C_STORE = "c-store"
    FOLDER = "folder"


class ArrivalOutcome(StrEnum):
    """How an arrival ended."""

    RELEASED = "released"
    """The sender released the association, or the whole drop was ingested: this arrival brings no further instances."""
    ABORTED = "aborted"
    """The association was aborted or timed out: the sender may open another one and send the rest."""
    INTERRUPTED = "interrupted"
    """The receiving program stopped or died, or the connection broke within an instance: the sender had more to send."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Sender, source and start of an arrival.

    Attributes
    ----------
    arrival_id
        Random-looking name, free of patient data; the name of the arrival's folder.
    peer_ae_title, peer_host
        Calling AE title and address of the sender; empty for a drop.
    email
        Recipients besides the general list (from the watched folder's settings).
    """

    arrival_id: str
    source: ArrivalSource
    opened_at: datetime
    peer_ae_title: str = ""
    peer_host: str = ""
    email: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Closing:
    """The end of an arrival: when, how, and how many files it stored."""

    closed_at: datetime
    outcome: ArrivalOutcome
    stored: int
