"""Which TCP connections have carried a valid request: of a person who signed in, a valid token or a valid link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import Scope

CONNECTION: Final = "corewatch.connection"
"""Key of the function in a request's scope that the server calls back."""


def mark_valid(scope: Scope) -> None:
    """Tell the server that this connection belongs to a reader, and no longer counts against its address."""
    mark: Callable[[], None] | None = scope.get(CONNECTION)
    if mark is not None:
        mark()
