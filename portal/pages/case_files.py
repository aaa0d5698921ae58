"""Pictures and files of a case: slices for the viewer, volumes for the three planes, downloads."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute

from corewatch.casefolder import CaseFolder
from corewatch.roles import Role
from ledger.cases import Case
from portal.access.principal import Principal
from portal.case_view import DOWNLOADS
from portal.responses import problem
from portal.routing import api
from portal.site import Site
from portal.viewer.open_stacks import OpenStack, OpenStacks
from portal.viewer.pictures import WINDOWS, Overlay, Window, core_png, jpeg

_VIEWERS: Final = frozenset({Role.VIEWER})
_PICTURE: Final = {"cache-control": "private, no-store"}
_VOLUMES: Final = frozenset({"aligned", "core_map"})


def routes(site: Site) -> list[BaseRoute]:
    """The routes. They answer as addresses for programs do: scripts of the page ask for them."""
    files = _CaseFiles(site)
    return [
        api(site, "/cases/{case_id}/slices", files.manifest, roles=_VIEWERS),
        api(site, "/cases/{case_id}/slices/{number:int}/image", files.image, roles=_VIEWERS),
        api(site, "/cases/{case_id}/slices/{number:int}/core", files.core, roles=_VIEWERS),
        api(site, "/cases/{case_id}/volumes/{name}", files.volume, roles=_VIEWERS),
        api(site, "/cases/{case_id}/files/{name}", files.download, roles=_VIEWERS),
    ]


class _CaseFiles:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._stacks = OpenStacks(site.settings, site.ledger)

    def manifest(self, request: Request, _principal: Principal) -> Response:
        """What the viewer needs to know of the stack."""
        case = self._case(request)
        if case is None:
            return problem(404, "There is no such case.")
        found = self._stacks.of(case)
        if found is None:
            removed = "The images of this case were removed by retention."
            return JSONResponse({"count": 0, "problem": removed if case.files_removed else "No image of this case can be shown."})
        stack = found.stack
        content: dict[str, Any] = {
            "source": stack.name,
            "count": len(stack.labels),
            "rows": stack.shape[0],
            "columns": stack.shape[1],
            "spacing_mm": list(stack.spacing_mm),
            "sides": {"left": stack.sides.left, "right": stack.sides.right, "top": stack.sides.top, "bottom": stack.sides.bottom},
            "slices": [
                {"instance": label.instance_number, "place": label.place, "core_mm2": area}
                for label, area in zip(stack.labels, found.areas, strict=True)
            ],
            "most_core": found.most_core,
            "has_core": any(area > 0 for area in found.areas),
            "windows": {str(name): list(values) for name, values in WINDOWS.items()},
        }
        return JSONResponse(content)

    def image(self, request: Request, _principal: Principal) -> Response:
        """One slice as JPEG."""
        found, number = self._open(request), request.path_params["number"]
        window = request.query_params.get("window", Window.BRAIN)
        if found is None or number >= len(found.areas) or window not in Window.__members__.values():
            return problem(404, "There is no such slice.")
        try:
            hu = found.stack.hounsfield(number)
        except LookupError as error:
            return problem(404, "The slice cannot be shown.", f"{error.args[0]}.")
        return Response(jpeg(hu, Window(window)), media_type="image/jpeg", headers=_PICTURE)

    def core(self, request: Request, _principal: Principal) -> Response:
        """The core on one slice as PNG."""
        found, number = self._open(request), request.path_params["number"]
        overlay = request.query_params.get("overlay", Overlay.OUTLINE)
        if found is None or number >= len(found.areas) or overlay not in Overlay.__members__.values():
            return problem(404, "There is no such slice.")
        core = found.stack.core(number)
        if core is None:
            return problem(404, "This case has no core map.")
        return Response(core_png(core, Overlay(overlay)), media_type="image/png", headers=_PICTURE)

    def volume(self, request: Request, _principal: Principal) -> Response:
        """A volume for the three planes."""
        name, case = request.path_params["name"].removesuffix(".nii.gz"), self._case(request)
        if case is None or name not in _VOLUMES:
            return problem(404, "There is no such volume.")
        path = getattr(CaseFolder(self._site.settings.cases_dir / case.case_id), name)
        if not path.is_file():
            return problem(404, "The volume is no longer there.")
        return FileResponse(path, media_type="application/gzip", headers=_PICTURE)

    def download(self, request: Request, principal: Principal) -> Response:
        """A file of the case, by name; a line of the audit trail."""
        name, case = request.path_params["name"], self._case(request)
        if case is None or name not in DOWNLOADS:
            return problem(404, "There is no such file.")
        file, _words, kind = DOWNLOADS[name]
        path = self._site.settings.cases_dir / case.case_id / file
        if not path.is_file():
            return problem(404, "The file is no longer there.")
        if "show" in request.query_params:
            return FileResponse(path, media_type=kind, headers=_PICTURE)
        self._site.ledger.note("portal.downloaded", case.case_id, by=principal.login, file=file)
        return FileResponse(path, media_type=kind, filename=f"{case.case_id}-{file}", headers=_PICTURE)

    def _case(self, request: Request) -> Case | None:
        return self._site.ledger.cases.get(request.path_params["case_id"])

    def _open(self, request: Request) -> OpenStack | None:
        case = self._case(request)
        return None if case is None else self._stacks.of(case)
