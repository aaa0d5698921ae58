"""Text from outside, such as names and the words of a server, made harmless for a terminal."""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""C0 and C1 control characters besides tab and line feed, and those that change the direction of writing."""


def printable(text: object) -> str:
    """The text with each control character replaced.

    >>> printable("sent by \\x1b[31mPACS") == "sent by \\ufffd[31mPACS"
    True
    """
    return _CONTROL.sub("\ufffd", str(text))
