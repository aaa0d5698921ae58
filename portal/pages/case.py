"""Case `/cases/{case_id}`: verdict, viewers, numbers, destinations, history, downloads; acknowledgement and retry."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from corewatch.casefolder import CaseFolder
from corewatch.reasons import Reason
from corewatch.roles import Role
from corewatch.states import CaseState
from ledger.cases import Case
from ledger.worklist import WorklistRow
from outputs.source_header import plain_text, read_header
from outputs.wording import moment
from portal.access.principal import Principal
from portal.case_view import downloads_of, history_of, model_words, read_result, times_of
from portal.patient_fields import PatientFields
from portal.people import person_of
from portal.responses import content_security_policy, html
from portal.routing import page
from portal.site import Site
from portal.worklist_view import row_view

log = structlog.get_logger()

_VIEWERS: Final = frozenset({Role.VIEWER})
_OPERATORS: Final = frozenset({Role.OPERATOR})
_WITH_FINDING: Final = frozenset({CaseState.DETECTED, CaseState.DELIVERING, CaseState.DELIVERED})


def routes(site: Site) -> list[BaseRoute]:
    """The routes."""
    case = _CasePage(site)
    return [
        page(site, "/cases/{case_id}", case.show, roles=_VIEWERS),
        page(site, "/cases/{case_id}/state", case.state, roles=_VIEWERS, background=True),
        page(site, "/cases/{case_id}/acknowledge", case.acknowledge, roles=_VIEWERS, methods=["POST"]),
        page(site, "/cases/{case_id}/retry", case.retry, roles=_OPERATORS, methods=["POST"]),
        page(site, "/cases/{case_id}/pacs", case.open_in_pacs, roles=_VIEWERS),
    ]


class _CasePage:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._patients = PatientFields(site)

    def show(self, request: Request, principal: Principal) -> Response:
        """The page."""
        cursor = self._site.ledger.changes.newest()
        row = self._site.ledger.worklist.row(request.path_params["case_id"])
        if row is None:
            return self._unknown(principal)
        case, folder = row.case, self._folder(row.case)
        result = read_result(folder)
        patient = self._patients.of_case(principal, case.case_id, "case")
        body = self._site.templates.render(
            "case.html",
            principal=principal,
            title=f"Case {case.case_id}",
            patient=patient,
            result=result,
            model=model_words(result),
            intended_use=self._intended_use(result),
            times=times_of(result),
            history=history_of(self._site.ledger.cases.history(case.case_id)),
            downloads=[] if case.files_removed else downloads_of(folder),
            has_planes=folder.aligned.is_file() and not case.files_removed,
            has_alignment_page=folder.qc.is_file(),
            has_summary=folder.summary.is_file(),
            has_pacs=case.study_uid is not None and self._may_open_in_pacs(principal),
            may_retry=case.state in {CaseState.FAILED, CaseState.NOT_ANALYSED} and case.case_key is not None,
            received=moment(case.last_stored_at.astimezone()),
            study_uid=case.study_uid or "",
            live_after=cursor,
            **self._state_values(row),
        )
        return html(body, policy=content_security_policy(img_src="'self' data:"))

    def state(self, request: Request, principal: Principal) -> Response:
        """The part of the page that changes: verdict, acknowledgement, destinations."""
        row = self._site.ledger.worklist.row(request.path_params["case_id"])
        if row is None:
            return self._unknown(principal)
        return html(self._site.templates.render("case_state.html", principal=principal, **self._state_values(row)))

    def acknowledge(self, request: Request, principal: Principal) -> Response:
        """Record that this person has seen the alert."""
        case_id = request.path_params["case_id"]
        alert = self._site.ledger.alerts.acknowledge(case_id, person_of(principal), "portal")
        if alert is None:
            return self._unknown(principal)
        log.info("alert_acknowledged", case=case_id, recipients="portal")
        return self._back(case_id)

    def retry(self, request: Request, principal: Principal) -> Response:
        """Start the stage again at which the case ended."""
        case_id = request.path_params["case_id"]
        if self._site.ledger.cases.get(case_id) is None:
            return self._unknown(principal)
        stage = self._site.ledger.cases.retry(case_id)
        if stage is None:
            return self._site.access.refusal(409, "This case can no longer be retried.", api=False, principal=principal)
        self._site.ledger.note("portal.retried", case_id, by=principal.login, stage=str(stage))
        return self._back(case_id)

    async def open_in_pacs(self, request: Request, principal: Principal) -> Response:
        """Lead to the PACS's viewer. The accession number is in no page of the portal's own."""
        address = await run_in_threadpool(self._pacs_address, request.path_params["case_id"], principal)
        if address is None:
            return self._unknown(principal)
        return RedirectResponse(address, 303, headers={"referrer-policy": "no-referrer"})

    def _pacs_address(self, case_id: str, principal: Principal) -> str | None:
        viewer, case = self._site.portal.viewer_url, self._site.ledger.cases.get(case_id)
        if viewer is None or case is None or case.study_uid is None or not self._may_open_in_pacs(principal):
            return None
        accession = ""
        path = self._folder(case).source_header
        if "{accession}" in viewer:
            if not path.is_file():
                return None
            accession = plain_text(read_header(path), "AccessionNumber")
            self._site.record_view(principal, "pacs", case_id, ("accession",))
        return viewer.format(study_uid=quote(case.study_uid, safe=""), accession=quote(accession, safe=""))

    def _may_open_in_pacs(self, principal: Principal) -> bool:
        """An address with the accession number is only for those who see patient fields."""
        viewer = self._site.portal.viewer_url
        if viewer is None:
            return False
        return "{accession}" not in viewer or principal.sees_patient_fields(self._site.portal.patient_roles)

    def _state_values(self, row: WorklistRow) -> dict[str, Any]:
        now, settings = self._site.ledger.clock(), self._site.settings
        how = settings.model
        view = row_view(row, {}, now=now, alert_ml=how.alert_ml, sla_s=self._site.portal.sla_s, model=how.name)
        result = read_result(self._folder(row.case))
        case = row.case
        return {
            "case": view,
            "detail": case.detail,
            "remedy": case.reason.remedy if isinstance(case.reason, Reason) else "",
            "files_removed": case.files_removed,
            "superseded_by": case.superseded_by,
            "attempts": {one.destination: (one.attempts, one.detail) for one in row.deliveries},
            "cautions": [one for one in (result or {}).get("cautions") or [] if isinstance(one, dict)],
            "alert_ml": f"{settings.model.alert_ml:g} mL",
            "has_finding": case.core_ml is not None and (case.state in _WITH_FINDING or view.verdict.kind == "alert"),
        }

    def _intended_use(self, result: dict[str, Any] | None) -> str:
        """Intended use from the manifest of the installed model, if it is the one of the result."""
        model = (result or {}).get("model") or {}
        return str(model.get("intended_use") or "")

    def _folder(self, case: Case) -> CaseFolder:
        return CaseFolder(self._site.settings.cases_dir / case.case_id)

    def _back(self, case_id: str) -> Response:
        return RedirectResponse(self._site.templates.url(f"/cases/{case_id}"), 303)

    def _unknown(self, principal: Principal) -> Response:
        return self._site.access.refusal(404, "There is no such case.", api=False, principal=principal)
