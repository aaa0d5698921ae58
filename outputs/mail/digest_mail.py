"""One mail about many cases, sent after an outage or when there are more cases than mails in an hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from corewatch import RESEARCH_LABEL
from outputs import wording
from outputs.case import ReportedCase
from outputs.mail.case_mail import mark_automatic, templates
from outputs.mail.refusal_words import READ_WITHOUT, advice


@dataclass(frozen=True, slots=True)
class DigestLine:
    """One case in a digest.

    Attributes
    ----------
    rank
        0 alert, 1 failed, 2 not analysed, 3 without alert.
    without_result
        Whether its images must be read without a result.
    """

    rank: int
    words: str
    without_result: bool


def digest_line(case: ReportedCase) -> DigestLine:
    """The line that reports the finding of a case, or why it has none."""
    headline = wording.headline(case)
    words = headline if case.problem is None else f"{headline}: {case.problem}"
    finding = None if case.failed else case.result.finding
    rank = 1 if case.failed else 2 if finding is None else 0 if finding.alert else 3
    return DigestLine(rank, words, without_result=finding is None and advice(case) == READ_WITHOUT)


def compose_digest(
    cases: Sequence[ReportedCase],
    *,
    sender: str,
    recipients: Sequence[str],
    message_id: str,
    sent_at: datetime,
    repeated: bool,
    link: Callable[[str], str] | None = None,
    line: Callable[[ReportedCase], DigestLine] = digest_line,
) -> EmailMessage:
    """Compose the mail: a line per case, alerts first, then the latest first; free of patient data.

    Parameters
    ----------
    link
        Case id -> address of the case's page.
    line
        What is said of a case.
    """
    lines = {case.case_id: line(case) for case in cases}
    ordered = sorted(cases, key=lambda case: (lines[case.case_id].rank, -case.received_at.timestamp(), case.case_id))
    counts = [sum(one.rank == rank for one in lines.values()) for rank in range(4)]
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
                "words": lines[case.case_id].words,
                "rank": lines[case.case_id].rank,
                "link": None if link is None else link(case.case_id),
            }
            for case in ordered
        ],
        "without_result": any(one.without_result for one in lines.values()),
        "label": RESEARCH_LABEL,
        "repeated": repeated,
    }
    message.set_content(templates().get_template("digest.txt").render(values))
    message.add_alternative(templates().get_template("digest.html").render(values), subtype="html")
    return message
