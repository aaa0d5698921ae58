"""Pages in the head of every page, for those who may open them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from corewatch.roles import Role
from portal.access.principal import Principal


@dataclass(frozen=True, slots=True)
class Entry:
    """One page: `roles` of which one is needed."""

    path: str
    label: str
    roles: frozenset[Role]


ENTRIES: Final = (Entry("/", "Worklist", frozenset({Role.VIEWER})), Entry("/account", "Account", frozenset(Role)))
"""In the order of the page."""


def navigation(principal: Principal | None) -> tuple[Entry, ...]:
    """The pages that somebody may open."""
    return () if principal is None else tuple(entry for entry in ENTRIES if principal.has(*entry.roles))
