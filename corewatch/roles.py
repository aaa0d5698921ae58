"""Roles of people and programs in the web portal, and what each role includes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What somebody may do in the portal. A person may have several roles."""

    VIEWER = "viewer"
    """Stroke team: worklist, case, acknowledgement."""
    READER = "reader"
    """Radiologist: a viewer who also assesses cases."""
    SUBMITTER = "submitter"
    """Uploads images and sees the state of these uploads."""
    OPERATOR = "operator"
    """PACS administrator: a viewer without patient fields, who also retries, cancels, sends again and sees operations."""
    AUDITOR = "auditor"
    """Exports the audit trail."""
    ADMIN = "admin"
    """Manages users and tokens."""


_INCLUDES: Final[Mapping[Role, frozenset[Role]]] = {
    Role.READER: frozenset({Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.VIEWER}),
}


def with_included(roles: Iterable[Role]) -> frozenset[Role]:
    """The roles and those that they include.

    >>> sorted(with_included([Role.READER]))
    [<Role.READER: 'reader'>, <Role.VIEWER: 'viewer'>]
    """
    granted = frozenset(roles)
    return granted.union(*(_INCLUDES.get(role, frozenset()) for role in granted))


def known_roles(names: Iterable[str]) -> frozenset[Role]:
    """The roles with these names; other names, for example of a later version, count for nothing."""
    return frozenset(Role(name) for name in names if name in Role.__members__.values())
