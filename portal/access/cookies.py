"""Cookies of the portal: the session, and the state of a sign-in at the identity provider."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_LONGEST: Final = 4096
SESSION: Final = "corewatch"
SIGN_IN: Final = "corewatch-sign-in"


class Cookies:
    """Sets and reads cookies that scripts cannot read and other hosts cannot set.

    Parameters
    ----------
    secure
        Whether people use https: the names then begin with `__Host-`, which browsers accept only with Secure, Path=/ and without
        a domain. Over http on this machine, for the demo, they cannot.
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._prefix = "__Host-" if secure else ""

    def read(self, request: Request, name: str) -> str | None:
        """Value of a cookie; None where it is absent, longer than a cookie may be, or sent twice."""
        full = f"{self._prefix}{name}"
        found = [
            value.strip()
            for header in request.headers.getlist("cookie")
            for key, _, value in (part.partition("=") for part in header.split(";"))
            if key.strip() == full
        ]
        return found[0] if len(found) == 1 and 0 < len(found[0]) <= _LONGEST else None

    def write(self, response: Response, name: str, value: str, max_age_s: int | None = None) -> None:
        """Set a cookie; without an age it ends with the browser."""
        response.set_cookie(
            f"{self._prefix}{name}", value, max_age=max_age_s, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def remove(self, response: Response, name: str) -> None:
        """Have the browser forget a cookie."""
        response.delete_cookie(f"{self._prefix}{name}", path="/", secure=self._secure, httponly=True, samesite="lax")
