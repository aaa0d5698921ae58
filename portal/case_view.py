"""What the page of a case shows besides its row in the worklist: result, times, history, files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from corewatch.casefolder import CaseFolder
from corewatch.findings import ModelIdentity
from ledger.audit_trail import AuditLine
from outputs.wording import model_for_readers, moment

_STAGES: Final = (
    ("convert", "Conversion"),
    ("align", "Alignment"),
    ("detect", "Network"),
    ("render", "Pages and objects"),
    ("deliver", "Delivery"),
    ("last_image_to_alert", "Last image to alert"),
)

_EVENTS: Final = {
    "case.receiving": "First image received",
    "case.queued": "Series complete, queued",
    "case.prepared": "Prepared",
    "case.detected": "Analysed",
    "case.delivering": "Result drawn, delivery begun",
    "case.delivered": "All deliveries done",
    "case.not_analysed": "Ended without analysis",
    "case.failed": "Failed",
    "case.superseded": "Replaced by a later revision",
    "case.analysed": "Finding recorded",
    "case.files_removed": "Files removed by retention",
    "alert.raised": "Alert raised",
    "alert.acknowledged": "Alert acknowledged",
    "alert.escalated": "Alert escalated",
    "alert.escalation_cancelled": "Escalation cancelled",
    "delivery.begun": "Delivery begun",
    "delivery.sent": "Delivered",
    "delivery.failed": "Delivery failed, will be retried",
    "delivery.refused": "Delivery refused",
    "delivery.skipped": "Delivery skipped",
    "work.posted_again": "Work posted again",
    "portal.patient_viewed": "Patient data viewed",
    "portal.retried": "Retried in the portal",
    "portal.downloaded": "File downloaded",
}

_NOT_SHOWN: Final = frozenset({"first", "holder", "recipients", "method", "levels", "sha256"})

DOWNLOADS: Final = {
    "summary": ("summary.png", "Summary page", "image/png"),
    "result": ("result.json", "Result", "application/json"),
    "aligned": ("aligned.nii.gz", "Aligned head", "application/gzip"),
    "core_map": ("core_map.nii.gz", "Core map on the network's grid", "application/gzip"),
    "core_map_native": ("core_map_native.nii.gz", "Core map on the scanner's grid", "application/gzip"),
    "qc": ("qc.png", "Alignment page", "image/png"),
    "settings": ("settings.json", "Settings of the analysis", "application/json"),
}
"""Name in the address -> file in the case folder, words, type. All are free of names, identifiers and dates of patients."""


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line of the history in words."""

    at: str
    words: str
    detail: str


@dataclass(frozen=True, slots=True)
class Download:
    """One file: its name in the address, words, and size."""

    name: str
    file: str
    words: str
    size: str


def read_result(folder: CaseFolder) -> dict[str, Any] | None:
    """`result.json` of the case; None where it is not there or damaged."""
    try:
        found = json.loads(folder.result.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def model_words(result: dict[str, Any] | None) -> str:
    """Model with version and digest; empty where there is none."""
    model = None if result is None else result.get("model")
    if not isinstance(model, dict):
        return ""
    try:
        return model_for_readers(ModelIdentity(str(model["name"]), str(model["version"]), str(model["sha256"])))
    except KeyError:
        return ""


def times_of(result: dict[str, Any] | None) -> list[tuple[str, str]]:
    """(words, seconds) of the stages that were reached."""
    seconds = {} if result is None else result.get("timings_s") or {}
    return [(words, f"{seconds[name]:.1f} s") for name, words in _STAGES if seconds.get(name) is not None]


def history_of(lines: Sequence[AuditLine]) -> list[HistoryLine]:
    """The audit trail of a case, newest first, without beginnings of stages and digests."""
    shown = [line for line in lines if not line.event.startswith("stage.") or line.event.endswith(".failed")]
    return [HistoryLine(moment(line.at.astimezone()), _words(line.event), _detail(line.detail)) for line in reversed(shown)]


def downloads_of(folder: CaseFolder) -> list[Download]:
    """The files that are there."""
    found = []
    for name, (file, words, _kind) in DOWNLOADS.items():
        try:
            size = (folder.path / file).stat().st_size
        except OSError:
            continue
        found.append(Download(name, file, words, f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"))
    return found


def _words(event: str) -> str:
    if event in _EVENTS:
        return _EVENTS[event]
    kind, _, rest = event.partition(".")
    return f"{kind} {rest}".replace("_", " ").replace(".", " ").capitalize()


def _detail(detail: dict[str, Any]) -> str:
    parts = [f"{name.replace('_', ' ')}: {_value(value)}" for name, value in detail.items() if name not in _NOT_SHOWN]
    return ", ".join(parts)[:300]


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
