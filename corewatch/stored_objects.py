"""Objects of a case that an archive has accepted: the record that lets a delivery that broke off go on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One accepted object.

    Attributes
    ----------
    sha256
        Of the file that was sent, hex. A file that differs is sent again.
    status
        The archive's answer: 0x0000, or a warning (PS3.4 B.2.3).
    """

    sha256: str
    status: int


class StoredObjectRecord(Protocol):
    """A durable record; `add` returns only when what it wrote would outlive a power cut."""

    def known(self, case_id: str, destination: str) -> Mapping[str, StoredObject]:
        """What the archive has accepted, by SOP Instance UID."""

    def add(self, case_id: str, destination: str, sop_instance_uid: str, stored: StoredObject) -> None:
        """Record that the archive has accepted an object."""


class NoStoredObjects:
    """Remembers nothing: for connection tests."""

    def known(self, case_id: str, destination: str) -> Mapping[str, StoredObject]:
        """Nothing."""
        return {}

    def add(self, case_id: str, destination: str, sop_instance_uid: str, stored: StoredObject) -> None:
        """Do nothing."""


def still_to_send(files: Iterable[tuple[str, str]], known: Mapping[str, StoredObject]) -> list[str]:
    """SOP Instance UIDs of the files that the archive does not have, in their order.

    Parameters
    ----------
    files
        (SOP Instance UID, sha256) of each.
    """
    return [uid for uid, sha256 in files if uid not in known or known[uid].sha256 != sha256]
