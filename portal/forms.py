"""Forms of the portal: small, URL-encoded, read within a bound."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

LONGEST_FORM: Final = 16_384
_KIND: Final = "application/x-www-form-urlencoded"


class FormRefused(Exception):
    """The body is no form of a page, or too large.

    Attributes
    ----------
    status
        HTTP status to answer with.
    text
        What to show.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


async def read_form(request: Request, longest: int = LONGEST_FORM) -> dict[str, str]:
    """Fields of a posted form; of a field that occurs twice the first value counts.

    Raises
    ------
    FormRefused
        The body is larger than `longest` bytes, or of another type.
    """
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > longest:
                raise FormRefused(413, "The request is too large.")
    except ClientDisconnect as error:
        raise FormRefused(408, "The request did not arrive in time.") from error
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _KIND:
        raise FormRefused(415, "Please use the form of this page.")
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=200)
    except ValueError as error:
        raise FormRefused(413, "The request has too many fields.") from error
    return dict(reversed(pairs))
