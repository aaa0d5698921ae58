"""How a person is named in the ledger by what he does on pages."""

from __future__ import annotations

from portal.access.principal import Principal


def person_of(principal: Principal) -> str:
    """Name with login, such as `Ute Brandt (brandt)`: who acknowledged an alert, at most 200 characters."""
    if not principal.name or principal.name == principal.login:
        return principal.login[:200]
    return f"{principal.name[: 197 - len(principal.login)]} ({principal.login})"
