"""One mail about many cases, sent after an outage or when there are more cases than mails in an hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from corewatch import RESEARCH_LABEL
from outputs import wording
from outputs.case import ReportedCase
from outputs.mail.case_mail import mark_automatic, templates


def compose_digest(
    cases: Sequence[ReportedCase],
    *,
    sender: str,
    recipients: Sequence[str],
    message_id: str,
    sent_at: datetime,
    repeated: bool,
    link: Callable[[str], str] | None = None,
) -> EmailMessage:
    """Compose the mail: a line per case, alerts first, then the latest first; free of patient data.

    Parameters
    ----------
    link
        Case id -> address of the case's page.
    """
    ordered = sorted(cases, key=lambda case: (_rank(case), -case.received_at.timestamp(), case.case_id))
    counts = [sum(_rank(case) == rank for case in cases) for rank in range(4)]
    names = ("ALERT", "FAILED", "not analysed", "without alert")
    summary = ", ".join(f"{count} {name}" for count, name in zip(counts, names, strict=True) if count)
    message = EmailMessage()
    message["Subject"] = f"[corewatch] digest of {len(cases)} cases: {summary}"
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(sent_at)
    message["Message-ID"] = message_id
    mark_automatic(message)
    if repeated:
        message["X-Corewatch-Repeated"] = "yes"
    if counts[0] or counts[1]:
        message["Importance"] = "high"
        message["X-Priority"] = "1"
    values = {
        "title": f"{len(cases)} cases: {summary}",
        "rows": [
            {
                "case_id": case.case_id,
                "received": wording.moment(case.received_at),
                "words": _words(case),
                "rank": _rank(case),
                "link": None if link is None else link(case.case_id),
            }
            for case in ordered
        ],
        "label": RESEARCH_LABEL,
        "repeated": repeated,
    }
    message.set_content(templates().get_template("digest.txt").render(values))
    message.add_alternative(templates().get_template("digest.html").render(values), subtype="html")
    return message


def _rank(case: ReportedCase) -> int:
    if case.failed:
        return 1
    if case.result.finding is None:
        return 2
    return 0 if case.result.finding.alert else 3


def _words(case: ReportedCase) -> str:
    headline = wording.headline(case)
    return headline if case.problem is None else f"{headline}: {case.problem}"
