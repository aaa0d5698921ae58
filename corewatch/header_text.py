"""Header texts in a form that patterns can search: composed, folded, bounded in length."""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_TEXT: Final = 256
"""Characters of a header text that are searched: senders are not trusted, and the site's patterns may be slow on long texts."""

_LETTERS: Final = str.maketrans({"ø": "o", "ł": "l", "æ": "ae", "œ": "oe", "ı": "i", "đ": "d", "ð": "d"})


def plain(text: str) -> str:
    """At most `MAX_TEXT` characters, composed (NFC), with spaces for `_` and `^` so that word boundaries match."""
    return unicodedata.normalize("NFC", text[:MAX_TEXT]).replace("_", " ").replace("^", " ")


def folded(text: str) -> str:
    """As `plain`, in lower case, without accents and full-width letters: one spelling for all ways to write a word.

    >>> folded("VEINEUX Sch\u00e4del_\uff23\uff34\uff21")
    'veineux schadel cta'
    """
    decomposed = unicodedata.normalize("NFKD", plain(text).casefold())
    without_marks = "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFC", without_marks).translate(_LETTERS)
