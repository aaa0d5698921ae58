"""Keyed hash (HMAC-SHA256) of an identifier: finds a case by accession number or Patient ID that nothing stores in the clear.

Without the key of the installation a hash can neither be guessed from a list of identifiers nor be compared with another site's.
"""

from __future__ import annotations

import hashlib
import hmac


def identifier_hash(key: bytes, value: str) -> str:
    """Hash of an identifier, 64 hex digits; empty for an empty one. Spaces and NULs around it, which pad DICOM values, are ignored.

    >>> identifier_hash(b"key", " A1 ") == identifier_hash(b"key", "A1") != identifier_hash(b"key", "a1")
    True
    >>> identifier_hash(b"key", " ")
    ''
    """
    plain = value.strip(" \0")
    return hmac.new(key, plain.encode(errors="replace"), hashlib.sha256).hexdigest() if plain else ""
