"""Signed links in mails: the holder may see the state of one case and acknowledge its alert, for some days."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer

PATH: Final = "/a/"
MAX_TOKEN_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a link: a recipients' list, by name, for one case."""

    case_id: str
    recipients: str


class Links:
    """Makes and verifies links.

    Parameters
    ----------
    key
        Key of the signature (HMAC-SHA256).
    url
        Address of the portal for readers of mails.
    """

    def __init__(self, key: bytes, url: str = "") -> None:
        self._url = url.rstrip("/")
        self._tokens = URLSafeTimedSerializer(key, salt="corewatch link", signer_kwargs={"digest_method": hashlib.sha256})

    def to(self, case_id: str, recipients: str) -> str:
        """Address of the case's page for this list."""
        return f"{self._url}{PATH}{self.token(case_id, recipients)}"

    def token(self, case_id: str, recipients: str) -> str:
        """The signed part of the address."""
        token = self._tokens.dumps([case_id, recipients])
        return token if isinstance(token, str) else token.decode()

    def read(self, token: str, good_for: timedelta) -> Holder | None:
        """The holder of a link; None where the signature is not ours, or the link is too old."""
        if len(token) > MAX_TOKEN_LENGTH:
            return None
        try:
            case_id, recipients = self._tokens.loads(token, max_age=int(good_for.total_seconds()))
        except (BadData, TypeError, ValueError):
            return None
        return Holder(str(case_id), str(recipients))
