"""Worklist `/`: open alerts first, live; its rows alone for a refresh; search by accession number or Patient ID."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from config.running_programs import outdated_programs
from corewatch.roles import Role
from corewatch.search_keys import identifier_hash
from corewatch.states import CaseState
from ledger.worklist import Cursor
from portal.access.principal import Principal
from portal.forms import FormRefused, read_form
from portal.patient_fields import PatientFields
from portal.people import person_of
from portal.responses import html
from portal.routing import page
from portal.site import Site
from portal.worklist_view import PRESETS, STATE_WORDS, WorklistAddress, row_view

_VIEWERS: Final = frozenset({Role.VIEWER})
_SCANNERS_OF: Final = timedelta(days=90)
STALE_S: Final = 30
"""Seconds without a sign of life after which a page says that it is not live."""


def routes(site: Site) -> list[BaseRoute]:
    """The routes."""
    worklist = WorklistPages(site)
    return [
        page(site, "/", worklist.show, roles=_VIEWERS),
        page(site, "/worklist/rows", worklist.rows, roles=_VIEWERS, background=True),
        page(site, "/search", worklist.search, roles=_VIEWERS, methods=["POST"]),
    ]


class WorklistPages:
    """The pages, on one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._patients = PatientFields(site)
        self._key = site.settings.search_key()

    def show(self, request: Request, principal: Principal) -> Response:
        """The page. The cursor of live events is taken before the rows are read: what happens between is sent again."""
        cursor = self._site.ledger.changes.newest()
        values = self._values(request, principal)
        scanners = self._site.ledger.worklist.scanners(self._site.ledger.clock() - _SCANNERS_OF)
        body = self._site.templates.render(
            "worklist.html",
            principal=principal,
            title="Worklist",
            here="/",
            presets=PRESETS,
            states=[(str(state), STATE_WORDS[state]) for state in CaseState],
            scanners=scanners,
            live_after=cursor,
            stale_s=STALE_S,
            outdated=self._outdated(principal),
            **values,
        )
        return html(body)

    def _outdated(self, principal: Principal) -> list[str]:
        """For operators: programs that run with earlier settings or another version."""
        if Role.OPERATOR not in principal.roles:
            return []
        now = self._site.ledger.clock()
        found = outdated_programs(self._site.settings.data_dir)
        return [f"{one.program.name} {one.sentence(now)}; restart it" for one in found]

    def rows(self, request: Request, principal: Principal) -> Response:
        """The rows alone."""
        return html(self._site.templates.render("worklist_rows.html", principal=principal, **self._values(request, principal)))

    async def search(self, request: Request, _principal: Principal) -> Response:
        """Lead to the cases of an identifier. The address gets its keyed hash, never the identifier."""
        try:
            form = await read_form(request)
        except FormRefused as refused:
            return self._site.access.refusal(refused.status, refused.text, api=False)
        found = identifier_hash(self._key, form.get("identifier", ""))
        if found:
            await run_in_threadpool(self._site.ledger.note, "portal.searched", by=_principal.login)
        return RedirectResponse(self._site.templates.url("/") + WorklistAddress(found=found).query(), 303)

    def _values(self, request: Request, principal: Principal) -> dict[str, Any]:
        address = WorklistAddress.parse(request.query_params)
        try:
            after = Cursor.parse(request.query_params["after"]) if "after" in request.query_params else None
        except ValueError:
            after = None
        worklist, now = self._site.ledger.worklist, self._site.ledger.clock()
        found = worklist.page(address.filter(now, person_of(principal)), after)
        patients = self._patients.of_list(principal, [row.case.case_id for row in found.rows], "worklist")
        sla_s, how = self._site.portal.sla_s, self._site.settings.model
        rows = [
            row_view(row, patients.get(row.case.case_id, {}), now=now, alert_ml=how.alert_ml, sla_s=sla_s, model=how.name)
            for row in found.rows
        ]
        return {
            "rows": rows,
            "address": address,
            "after": request.query_params.get("after", "") if after is not None else "",
            "following": None if found.following is None else address.query(after=str(found.following)),
            "open_alerts": worklist.open_alerts(),
            "patient_labels": self._patients.labels(principal),
            "sla": f"{sla_s:g} s",
            "at": f"{now.astimezone():%H:%M:%S}",
        }
