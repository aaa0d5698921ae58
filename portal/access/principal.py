"""The person or program that makes a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from corewatch.roles import Role, with_included


class SignIn(StrEnum):
    """How somebody signed in."""

    PASSWORD = "password"  # noqa: S105
    OIDC = "oidc"
    PROXY = "proxy"
    TOKEN = "token"  # noqa: S105
    LINK = "link"
    """A link of `corewatch users link`, valid once."""


@dataclass(frozen=True)
class Principal:
    """The person or program that makes a request.

    Attributes
    ----------
    login
        Names it in the audit trail.
    name
        Shown on pages.
    granted
        The roles that were given to it.
    method
        How it signed in.
    """

    login: str
    name: str
    granted: frozenset[Role]
    method: SignIn

    @cached_property
    def roles(self) -> frozenset[Role]:
        """The roles with those that they include."""
        return with_included(self.granted)

    def has(self, *roles: Role) -> bool:
        """Whether it has one of these roles, given or included."""
        return not self.roles.isdisjoint(roles)

    def sees_patient_fields(self, patient_roles: Iterable[Role]) -> bool:
        """Whether it sees patient data. Only roles that were given count: an operator includes a viewer without these fields."""
        return not self.granted.isdisjoint(patient_roles)
