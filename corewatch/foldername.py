"""Names of result folders from a pattern of the settings. Pure.

A pattern ends with ``{case_id}``: ids have a fixed length and are unique, so two cases never share a folder, whatever the rest of
the name is. Values from a DICOM header are reduced to characters that every file system and share accepts.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Final

CASE_ID: Final = "case_id"

PLAIN_FIELDS: Final = (CASE_ID, "date", "side", "alert", "revision")
"""Fields of a pattern without patient data: id; date of arrival; left, right or none; alert, no-alert or not-analysed; revision."""

PATIENT_FIELDS: Final = ("patient_id", "accession_number", "study_date")
"""Fields of a pattern that identify the patient to everybody who can list the folder."""

_LITERAL: Final = re.compile(r"[A-Za-z0-9 ._/-]*")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # device names of Windows
_LONGEST: Final = 40  # of one field: a path on a Windows share has 260 characters in all


def fields_of(pattern: str) -> tuple[str, ...]:
    """The fields that `pattern` names, in its order.

    Raises
    ------
    ValueError
        The pattern is invalid; the message is for its author.
    """
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(f"not a pattern: {error}") from None
    named = []
    for literal, field, form, conversion in parts:
        if not _LITERAL.fullmatch(literal):
            raise ValueError("outside of its fields a pattern holds letters, digits, space and . _ - / only")
        if field is None:
            continue
        if field not in (*PLAIN_FIELDS, *PATIENT_FIELDS) or form or conversion:
            raise ValueError(f"a pattern knows the fields {', '.join((*PLAIN_FIELDS, *PATIENT_FIELDS))}, without further marks")
        named.append(field)
    if not pattern.endswith(f"{{{CASE_ID}}}") or named.count(CASE_ID) != 1:
        raise ValueError("a pattern ends with {case_id}, so that no two cases share a folder")
    for part in pattern.split("/"):
        if not part or part.startswith((".", " ")) or part.endswith((".", " ")):
            raise ValueError("no part of a pattern is empty, or begins or ends with a dot or a space")
    return tuple(named)


def folder_name(pattern: str, values: Mapping[str, str]) -> str:
    """The path of a case's folder below the results folder, with ``/`` between its parts.

    Parameters
    ----------
    pattern
        Checked by `fields_of`.
    values
        The value of each field that it names; empty where unknown.

    >>> folder_name("{date}/{side}-{case_id}", {"date": "2026-11-20", "side": "left", "case_id": "k3v9x2mqpt"})
    '2026-11-20/left-k3v9x2mqpt'
    """
    filled = pattern.format_map({field: safe(values[field]) for field in fields_of(pattern)})
    parts = [f"_{part}" if _RESERVED.fullmatch(part) else part for part in filled.split("/")]
    return "/".join(parts)


def any_name_of(pattern: str, case_id: str) -> str:
    """Glob of every name that `pattern` can give the case: the name changes when a failed case is analysed later."""
    return pattern.format_map({field: case_id if field == CASE_ID else "*" for field in fields_of(pattern)})


def safe(value: str) -> str:
    """A value as part of a file name: ASCII letters, digits, ``. _ -``, never empty, never hidden.

    >>> safe("../Doe^Jane")
    'Doe_Jane'
    """
    return _UNSAFE.sub("_", value).strip("._-")[:_LONGEST].strip("._-") or "unknown"
