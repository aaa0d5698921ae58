"""Mails about a case: subject free of patient data, plain text and HTML, the summary page inside."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from corewatch import RESEARCH_LABEL
from outputs import wording
from outputs.case import ReportedCase

_IMAGE_NAME: Final = "summary.png"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("outputs"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def message_id(case: ReportedCase, purpose: str, recipients: Sequence[str], sender: str) -> str:
    """Message-ID (RFC 5322 3.6.4) that a repeat of the same mail has again, so that mail servers and readers recognise it.

    A case that ended without a finding, was started anew by an operator and ended so again has another end to tell of.
    """
    end = [] if case.problem is None else [case.analysed_at.astimezone(UTC).isoformat()]
    text = "\n".join([case.case_id, str(case.revision), purpose, *end, *sorted(recipients)])
    domain = sender.rpartition("@")[2].strip("<> ") or "corewatch.invalid"
    return f"<{hashlib.sha256(text.encode()).hexdigest()[:32]}@{domain}>"


def facts(case: ReportedCase) -> tuple[tuple[str, str], ...]:
    """The lines of the body: (name, words), free of patient data."""
    finding = case.result.finding
    rows = [("Case", f"{case.case_id}, revision {case.revision}")]
    if finding is not None and not case.failed:
        rows += [
            ("Core volume", wording.volume(finding)),
            ("10-90 % range", wording.interval(finding) or "not computed"),
            ("Side", wording.side(finding)),
            ("Alignment", wording.alignment(case.result.quality)),
            ("Model", wording.model_for_readers(finding.model)),
        ]
    return (*rows, ("Received", wording.moment(case.received_at)), ("Analysed", wording.moment(case.analysed_at)))


def compose(
    case: ReportedCase,
    *,
    sender: str,
    recipients: Sequence[str],
    message_id: str,
    sent_at: datetime,
    summary_png: bytes | None,
    patient: Sequence[tuple[str, str]] = (),
) -> EmailMessage:
    """Make one mail.

    Parameters
    ----------
    patient
        (DICOM keyword, value) that the settings name; for the body alone.
    summary_png
        The summary page; None where there is none.
    """
    finding = None if case.failed else case.result.finding
    message = EmailMessage()
    revision = f", revision {case.revision}" if case.revision > 1 else ""
    message["Subject"] = f"[corewatch] {wording.headline(case)} - case {case.case_id}{revision}"
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(sent_at)
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
    message["X-Corewatch-Case"] = f"{case.case_id}; revision={case.revision}"
    if (finding is not None and finding.alert) or case.failed:
        message["Importance"] = "high"
        message["X-Priority"] = "1"
    values = {
        "verdict": wording.headline(case) if finding is None else wording.verdict(finding),
        "alert": finding is not None and finding.alert,
        "volume": None if finding is None else wording.volume(finding),
        "span": None if finding is None else wording.interval(finding),
        "side": None if finding is None else wording.side(finding),
        "caution": None if finding is None else wording.caution(finding),
        "problem": case.problem,
        "facts": facts(case),
        "patient": tuple(patient),
        "label": RESEARCH_LABEL,
        "image": "summary" if summary_png is not None else None,
    }
    message.set_content(_templates().get_template("mail.txt").render(values))
    message.add_alternative(_templates().get_template("mail.html").render(values), subtype="html")
    html = message.get_body(("html",))
    if summary_png is not None and html is not None:
        html.add_related(summary_png, "image", "png", cid="<summary>", filename=_IMAGE_NAME, disposition="inline")
    return message
