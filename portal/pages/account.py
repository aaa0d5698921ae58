"""Account `/account`: who is signed in and with which roles; for an administrator also the users of the portal."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from corewatch.roles import Role
from portal.access.principal import Principal
from portal.responses import html
from portal.routing import page
from portal.site import Site

ROLE_WORDS: Final = {
    Role.VIEWER: "sees worklist and cases, acknowledges alerts",
    Role.READER: "sees worklist and cases, acknowledges alerts, assesses cases",
    Role.SUBMITTER: "submits images",
    Role.OPERATOR: "sees worklist and cases without patient data, retries cases",
    Role.AUDITOR: "exports the audit trail with `corewatch audit`",
    Role.ADMIN: "manages users and tokens with `corewatch users`",
}


def routes(site: Site) -> list[BaseRoute]:
    """The route: every role has an account."""

    def show(_request: Request, principal: Principal) -> Response:
        users = site.ledger.users.all() if principal.has(Role.ADMIN) else None
        roles = [(str(role), ROLE_WORDS[role]) for role in Role if role in principal.granted]
        body = site.templates.render(
            "account.html", principal=principal, title="Account", here="/account", roles=roles, method=principal.method, users=users
        )
        return html(body)

    return [page(site, "/account", show, roles=frozenset(Role))]
