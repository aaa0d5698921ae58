"""The console of every command: what comes from outside, such as names and the words of a server, is text and never markup.

Neither rich's markup (`[/x]`) nor an emoji code nor a control sequence of the terminal has an effect.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from cli.printable import printable

PLAIN_WIDTH: Final = 132
"""Width where the output is not a terminal: a line per case, for grep."""


class PlainConsole(Console):
    """A rich console without markup, whose output holds no control character but its own.

    Parameters
    ----------
    stderr
        Write to standard error.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else PLAIN_WIDTH
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **{"width": width, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to segments, without control characters in their texts."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
