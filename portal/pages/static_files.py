"""Route of the static files. With their version in the address browsers keep them; without it they ask again after an hour."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from portal.routing import open_route
from portal.site import Site
from portal.static_files import static_files

_YEAR: Final = "public, max-age=31536000, immutable"
_HOUR: Final = "public, max-age=3600"


def routes(_site: Site) -> list[BaseRoute]:
    """The route."""
    return [open_route("/static/{path:path}", _serve)]


async def _serve(request: Request) -> Response:
    file = static_files().get(request.path_params["path"])
    if file is None:
        return PlainTextResponse("There is no such file.", 404)
    headers = {
        "cache-control": _YEAR if request.query_params.get("v") == file.version else _HOUR,
        "etag": f'"{file.version}"',
        "vary": "accept-encoding",
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, media_type=file.kind, headers={**headers, "content-encoding": "gzip"})
    return Response(file.content, media_type=file.kind, headers=headers)
