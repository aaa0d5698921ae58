"""Derived identifiers: case keys and DICOM UIDs that depend on their input alone.

The key of a case identifies the analysed instances, a derived UID an object of a result. So a result that is sent again consists of
the same objects.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from corewatch.findings import ModelIdentity

RESULT_SERIES = "corewatch ischemic core"
"""Beginning of the Series Description (0008,103E) of our results; it identifies them when a PACS sends them back."""

_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"  # no look-alikes: case ids are read out over the telephone


def new_case_id() -> str:
    """A fresh case id: 10 characters, about 49 bits, free of patient data."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def case_key(series_uid: str, sop_instance_uids: Iterable[str]) -> str:
    """Key of one revision of a series: SHA-256 (hex) of the series UID and the sorted set of its SOP instance UIDs."""
    text = "\n".join([series_uid, *sorted(set(sop_instance_uids))])
    return hashlib.sha256(text.encode()).hexdigest()


def derived_uid(key: str, model: ModelIdentity | None, role: str) -> str:
    """A DICOM UID under 2.25 (PS3.5 B.2) that depends on its arguments alone.

    Parameters
    ----------
    key
        The case's key.
    model
        The model that made the result; None for objects of a case that was not analysed.
    role
        What the object is, for example ``sc-series`` or ``sc-instance-3``.
    """
    identity = "" if model is None else f"{model.name}\n{model.version}\n{model.sha256}"
    digest = hashlib.sha256(f"{key}\n{identity}\n{role}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
