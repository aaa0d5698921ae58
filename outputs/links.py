"""Signed links in mails: the holder may see one case's state and acknowledge its alert, for some days."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer

PATH: Final = "/a/"
LONGEST_TOKEN: Final = 300


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a link was given to: the case, and the name of the recipients' list."""

    case_id: str
    recipients: str


class Links:
    """Makes and reads links.

    Parameters
    ----------
    key
        Of the signature (HMAC-SHA256).
    url
        How readers reach the portal.
    """

    def __init__(self, key: bytes, url: str = "") -> None:
        self._url = url.rstrip("/")
        self._tokens = URLSafeTimedSerializer(key, salt="corewatch link", signer_kwargs={"digest_method": hashlib.sha256})

    def to(self, case_id: str, recipients: str) -> str:
        """Address of the case's page for this list."""
        return f"{self._url}{PATH}{self.token(case_id, recipients)}"

    def token(self, case_id: str, recipients: str) -> str:
        """The part that is signed."""
        token = self._tokens.dumps([case_id, recipients])
        return token if isinstance(token, str) else token.decode()

    def read(self, token: str, good_for: timedelta) -> Holder | None:
        """Recipient of the link; None: the link is not ours, or too old."""
        if len(token) > LONGEST_TOKEN:
            return None
        try:
            case_id, recipients = self._tokens.loads(token, max_age=int(good_for.total_seconds()))
        except (BadData, TypeError, ValueError):
            return None
        return Holder(str(case_id), str(recipients))
