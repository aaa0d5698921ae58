"""Delivery to a program of the hospital: one signed HTTP request per case, as Standard Webhooks describes it.

https://github.com/standard-webhooks/standard-webhooks: `webhook-id` (the same for a repeat), `webhook-timestamp` (Unix seconds) and
`webhook-signature` (`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`). Only the settings
name the address, and no redirect is followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import requests

from config.delivery import DeliverSettings, WebhookSettings
from corewatch import RESEARCH_LABEL
from corewatch.destinations import WEBHOOK, WEBHOOK_NOTICES
from corewatch.errors import NoAnswer, OperatorNeeded, RetryLater
from outputs.case import ReportedCase
from outputs.destinations.base import Delivered, DestinationContext, DestinationKind, utc_clock
from outputs.mail.case_mail import event_key

_RETRY_STATUSES: Final = frozenset({408, 425, 429})
"""Statuses below 500 that are temporary (RFC 9110, 15.5.9; RFC 8470; RFC 6585)."""

_FIELDS: Final = (
    "case_id", "state", "revision", "reason", "reason_text", "model", "core_ml", "core_ml_interval", "model_rmse_ml", "side",
    "side_confidence", "alert", "unstable", "cautions",
)  # fmt: skip
"""The fields of `result.json` that are sent: none names patient, study or series."""


class WebhookDestination:
    """POSTs each finding once as JSON; a repeat has the same `webhook-id`."""

    name: str = WEBHOOK
    must_not_wait = False

    def __init__(self, settings: WebhookSettings, clock: Callable[[], datetime] = utc_clock) -> None:
        self._settings = settings
        self._clock = clock
        self.server = settings.server

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip a case without a finding, and a finding that the settings do not want sent."""
        case = self._reported(case)
        finding, when = case.result.finding, self._settings.when
        if finding is None or case.failed:
            return "no finding: webhook-notices reports it, where deliver.webhook.not_analysed is true"
        if when == "never":
            return "switched off (deliver.webhook.when: never)"
        return "no alert (deliver.webhook.when: positive)" if when == "positive" and not case.is_positive else None

    def deliver(self, case: ReportedCase) -> Delivered:
        """Send; every status 2xx counts as accepted."""
        case = self._reported(case)
        identity, now = f"msg_{self.key(case)}", self._clock()
        body = json.dumps(self.payload(case), separators=(",", ":")).encode()
        status = self._request(
            "POST", body, signed_headers(secret_bytes(self._settings.secret.get_secret_value()), identity, now, body)
        )
        if 200 <= status < 300:
            return Delivered(f"{self.server} answered {status} to {identity}", now)
        answered = f"{self.server} answered {status}"
        if status >= 500 or status in _RETRY_STATUSES:
            raise RetryLater(answered, "look at its log")
        if 300 <= status < 400:
            raise OperatorNeeded(f"{answered}, a redirect, which is not followed", "correct deliver.webhook.url")
        raise OperatorNeeded(answered, "look at its log, and compare deliver.webhook.secret on both sides")

    def _reported(self, case: ReportedCase) -> ReportedCase:
        """The case as this request reports it: an alert also where the pages could not be drawn."""
        return case.as_alert

    def key(self, case: ReportedCase) -> str:
        """Hash of the event that the request reports: the same for a repeat."""
        return event_key(case, self.name)

    def payload(self, case: ReportedCase) -> dict[str, Any]:
        """The content of the request."""
        return payload(case)

    def check(self) -> None:
        """HEAD: returns if a server answers, over TLS that can be trusted, whatever the status."""
        self._request("HEAD", b"", {})

    def _request(self, method: str, body: bytes, headers: dict[str, str]) -> int:
        verify: bool | str = True if self._settings.authority is None else str(self._settings.authority)
        with requests.Session() as session:
            session.trust_env = False  # neither proxies nor .netrc of the environment
            try:
                with session.request(
                    method, self._settings.url, data=body, headers=headers, timeout=self._settings.timeout_s, allow_redirects=False,
                    verify=verify, stream=True,
                ) as answer:  # fmt: skip
                    with suppress(requests.RequestException):
                        answer.raw.read(1024)  # the content is not needed
                    return answer.status_code
            except requests.exceptions.SSLError:
                raise OperatorNeeded(
                    f"the certificate of {self.server} cannot be trusted", "check deliver.webhook.authority and url"
                ) from None
            except (requests.RequestException, OSError) as error:
                why = f"{self.server} cannot be reached or broke off ({type(error).__name__})"
                raise NoAnswer(why, "check deliver.webhook.url and the firewall") from None


class WebhookNotices(WebhookDestination):
    """POSTs each case that was not analysed or failed, also after a request with its finding."""

    name = WEBHOOK_NOTICES

    def _reported(self, case: ReportedCase) -> ReportedCase:
        """The case as it is: failed."""
        return case

    def skip_reason(self, case: ReportedCase) -> str | None:
        """Skip an analysed case, and every case unless the settings ask for notices."""
        if case.result.finding is not None and not case.failed:
            return "analysed: nothing to notify of"
        return None if self._settings.not_analysed else "deliver.webhook.not_analysed is false"


def payload(case: ReportedCase) -> dict[str, Any]:
    """The content of the request: a part of `result.json`, free of patient data and of UIDs."""
    result = case.result.to_json()
    data: dict[str, Any] = {name: result[name] for name in _FIELDS}
    data["received_at"], data["analysed_at"] = case.received_at.isoformat(), case.analysed_at.isoformat()
    data["notice"] = RESEARCH_LABEL
    kind = "failed" if case.failed else "not_analysed" if case.result.finding is None else "result"
    return {"type": f"case.{kind}", "timestamp": case.analysed_at.astimezone(UTC).isoformat(), "data": data}


def signed_headers(secret: bytes, identity: str, now: datetime, body: bytes) -> dict[str, str]:
    """The headers of a request, its signature included."""
    timestamp = str(int(now.timestamp()))
    signature = hmac.new(secret, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        "content-type": "application/json",
        "user-agent": "corewatch",
    }


def secret_bytes(text: str) -> bytes:
    """The signing key in a secret: base64 after `whsec_`, or any other text as it is.

    Raises
    ------
    ValueError
        The text after `whsec_` is not base64.
    """
    if text.startswith("whsec_"):
        return base64.b64decode(text.removeprefix("whsec_"), validate=True)
    return text.encode()


def _build(deliver: DeliverSettings, context: DestinationContext) -> Iterator[WebhookDestination]:
    if deliver.webhook is not None:
        yield WebhookDestination(deliver.webhook, context.clock)
        if deliver.webhook.not_analysed:
            yield WebhookNotices(deliver.webhook, context.clock)


KIND = DestinationKind(WebhookSettings, _build)
