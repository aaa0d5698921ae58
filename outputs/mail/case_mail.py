"""Mails about a case: subject free of patient data, plain text and HTML, the summary page inside."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from corewatch import RESEARCH_LABEL
from corewatch.cautions import voiding
from corewatch.findings import Finding
from outputs import wording
from outputs.case import ReportedCase
from outputs.mail.refusal_words import MailWords, advice

_IMAGE_NAME: Final = "summary.png"


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The templates of mails, escaped where they are HTML."""
    return Environment(
        loader=PackageLoader("outputs.mail"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def event_key(case: ReportedCase, purpose: str) -> str:
    """Hash of the event that a mail reports: the same for a repeat, and for no other event.

    A case without a finding that an operator retried and that ended so again is another event: its end is at another time.
    """
    end = [] if case.problem is None else [(case.ended_at or case.analysed_at).astimezone(UTC).isoformat()]
    return _digest("\n".join([case.case_id, str(case.revision), purpose, *end]))


def refusal_key(case: ReportedCase, purpose: str, refused_at: datetime | None) -> str:
    """Hash of the event that a destination refused a result: another one after an operator has started the delivery again."""
    when = "" if refused_at is None else refused_at.astimezone(UTC).isoformat()
    return _digest("\n".join(["refusal", case.case_id, str(case.revision), purpose, when]))


def digest_key(digest: str, purpose: str, name: str, recipients: Sequence[str]) -> str:
    """Hash of the event that a digest to one list reports; a digest of cases of several senders is several mails."""
    return _digest("\n".join(["digest", digest, purpose, name, *recipients]))


def message_id(key: str, recipients: str, sender: str) -> str:
    """Message-ID (RFC 5322, 3.6.4), the same for a repeat, so that mail servers and readers recognise it.

    Parameters
    ----------
    key
        Of the event (`event_key`).
    recipients
        Name of the recipients' list: each list gets its own message.
    """
    return f"<{_digest(key + chr(10) + recipients)}@{domain_of(sender)}>"


def digest_message_id(digest: str, key: str, sender: str) -> str:
    """Message-ID of a digest. It begins with the digest's name, so that a receipt shows by which digest a recipient has a case."""
    return f"<{digest}.{_digest(key)}@{domain_of(sender)}>"


def thread_id(study_uid: str, key: bytes, sender: str) -> str:
    """Message-ID under which mail readers gather all mails of one study.

    No message has this Message-ID; readers gather the messages that refer to it. It is a keyed hash, so that it does not identify
    the study to somebody who knows Study Instance UIDs.
    """
    digest = hmac.new(key, b"thread\n" + study_uid.encode(), hashlib.sha256).hexdigest()
    return f"<study-{digest[:32]}@{domain_of(sender)}>"


def mark_automatic(message: EmailMessage) -> None:
    """Ask mail readers for no automatic replies: RFC 3834, and the header of Microsoft Exchange."""
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "OOF, AutoReply"


def domain_of(sender: str) -> str:
    """Domain of the sender's address, for Message-IDs; `corewatch.invalid` where it has none."""
    return sender.rpartition("@")[2].strip("<> ") or "corewatch.invalid"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def facts(case: ReportedCase) -> tuple[tuple[str, str], ...]:
    """The lines of the body: (name, words), free of patient data."""
    finding = case.result.finding
    rows = [("Case", f"{case.case_id}, revision {case.revision}")]
    if finding is not None and not case.failed:
        rows += [
            ("Core volume", wording.volume(finding)),
            ("Placement range", wording.interval(finding) or "not computed"),
            ("Model's own error", wording.own_error(finding) or "not known"),
            ("Side", wording.side(finding)),
            ("Alignment", wording.alignment(case.result.quality)),
            ("Model", wording.model_for_readers(finding.model)),
        ]
    if case.remedy is not None:
        rows.append(("What to do", case.remedy))
    if not case.failed:
        rows += [("Caution", f"{one.sentence} {one.remedy}") for one in case.result.cautions]
    rows += [("Note", note) for note in case.result.notes]
    decided = "Decided" if finding is None else "Analysed"
    return (*rows, ("Received", wording.moment(case.received_at)), (decided, wording.moment(case.analysed_at)))


def compose(
    case: ReportedCase,
    *,
    sender: str,
    recipients: Sequence[str],
    message_id: str,
    sent_at: datetime,
    summary_png: bytes | None,
    patient: Sequence[tuple[str, str]] = (),
    thread: str | None = None,
    link: str | None = None,
    repeated: bool = False,
    lead: str = "",
    note: str = "",
    words: MailWords | None = None,
) -> EmailMessage:
    """Compose the mail about one case, as plain text and HTML.

    Parameters
    ----------
    patient
        (DICOM keyword, value) of the fields that the settings name; they are in the body only.
    summary_png
        The summary page; None where there is none.
    thread
        Message-ID that gathers the mails of a study, see `thread_id`.
    link
        Address of the case's page.
    lead
        First words of subject and verdict.
    note
        Why the recipients get it, where that is not plain.
    repeated
        The recipients perhaps have it already: this is a copy with the same Message-ID.
    words
        Of a mail that does not report the finding itself; the finding is then among the facts.
    """
    finding = None if case.failed or words is not None else case.result.finding
    void = None if finding is None else voiding(case.result.cautions)
    headline = wording.headline(case) if words is None else words.headline
    message = EmailMessage()
    revision = f", revision {case.revision}" if case.revision > 1 else ""
    message["Subject"] = f"[corewatch] {lead}{headline} - case {case.case_id}{revision}"
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(sent_at)
    message["Message-ID"] = message_id
    mark_automatic(message)
    if thread is not None:
        message["In-Reply-To"] = thread
        message["References"] = thread
    if repeated:
        message["X-Corewatch-Repeated"] = "yes"
    message["X-Corewatch-Case"] = f"{case.case_id}; revision={case.revision}"
    if (finding is not None and finding.alert) or case.failed or words is not None:
        message["Importance"] = "high"
        message["X-Priority"] = "1"
    values = {
        "verdict": lead + _verdict(case, None if void is not None else finding, words),
        "note": note,
        "alert": (finding is not None and finding.alert) or (words is not None and words.alarm),
        "volume": None if finding is None else wording.volume(finding),
        "ranges": None if finding is None else wording.ranges(finding),
        "demonstration": finding is not None and finding.model.demonstration,
        "side": None if finding is None else wording.side(finding),
        "warnings": () if finding is None else wording.warnings(case),
        "void": void is not None,
        "problem": case.problem if words is None else words.problem,
        "advice": advice(case) if words is None else words.advice,
        "facts": facts(case) if words is None else (*words.rows, *facts(case)),
        "patient": tuple(patient),
        "label": RESEARCH_LABEL,
        "link": link,
        "link_words": "Acknowledge this alert" if finding is not None and finding.alert else "Open the case",
        "repeated": repeated,
        "image": "summary" if summary_png is not None else None,
    }
    message.set_content(templates().get_template("mail.txt").render(values))
    message.add_alternative(templates().get_template("mail.html").render(values), subtype="html")
    html = message.get_body(("html",))
    if summary_png is not None and html is not None:
        html.add_related(summary_png, "image", "png", cid="<summary>", filename=_IMAGE_NAME, disposition="inline")
    return message


def _verdict(case: ReportedCase, finding: Finding | None, words: MailWords | None) -> str:
    if words is not None:
        return words.verdict
    return _capital(wording.headline(case)) if finding is None else wording.verdict(finding)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
