"""DICOM audit messages (PS3.15 A.5) from lines of the audit trail, and their syslog frames (RFC 5424, RFC 5425). Pure.

A line becomes a message where DICOM defines one for its event. The schema is that of A.5.1; the messages are Application Activity
(A.5.3.1), Begin Transferring DICOM Instances (A.5.3.3), Data Export (A.5.3.4), DICOM Instances Accessed (A.5.3.6) and DICOM
Instances Transferred (A.5.3.7). All but the first name the study and the patient.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

from corewatch.destinations import FOLDER, WEBHOOK, WEBHOOK_NOTICES, WEBHOOK_REFUSAL

_BEGIN: Final = ("110102", "Begin Transferring DICOM Instances")
_TRANSFERRED: Final = ("110104", "DICOM Instances Transferred")
_ACCESSED: Final = ("110103", "DICOM Instances Accessed")
_EXPORT: Final = ("110106", "Export")
_ACTIVITY: Final = ("110100", "Application Activity")
_START: Final = ("110120", "Application Start")
_STOP: Final = ("110121", "Application Stop")
_APPLICATION: Final = ("110150", "Application")
_DESTINATION: Final = ("110152", "Destination Role ID")
_SOURCE: Final = ("110153", "Source Role ID")
_DESTINATION_MEDIA: Final = ("110154", "Destination Media")
_STUDY: Final = ("110180", "Study Instance UID")
_PATIENT: Final = ("2", "Patient Number")  # of RFC 3881 5.5.3, as A.5.1.2.4 lists it
_WITHHELD: Final = "(withheld)"

_SUCCESS, _MINOR_FAILURE = "0", "4"
_MACHINE_NAME, _IP_ADDRESS, _EMAIL, _URI = "1", "2", "4", "5"  # NetworkAccessPointTypeCode, A.5.1

PRIORITY: Final = 10 * 8 + 5
"""Facility 10 (security), severity 5 (normal but significant), PS3.15 A.6."""
MESSAGE_ID: Final = "DICOM+RFC3881"


@dataclass(frozen=True, slots=True)
class ArchivePeer:
    """An archive that results are sent to: AE title and host, or the address of a DICOMweb service."""

    user: str
    address: str
    """Host, or the address of a DICOMweb service."""


@dataclass(frozen=True, slots=True)
class Site:
    """This installation, and the archive behind each destination's name."""

    source_id: str
    ae_title: str
    host: str
    pacs: Mapping[str, ArchivePeer]


@dataclass(frozen=True, slots=True)
class TrailLine:
    """One line of the audit trail, with study, senders and patient of its case."""

    at: datetime
    event: str
    detail: Mapping[str, Any]
    case_id: str | None = None
    study_uid: str | None = None
    senders: Sequence[tuple[str, str]] = ()
    patient: str = ""
    """Patient ID, or a pseudonym of it; empty where it is not known."""


@dataclass(frozen=True, slots=True)
class _Participant:
    user: str
    requestor: bool
    role: tuple[str, str]
    address: str = ""
    ae_title: str = ""
    kind: str = ""
    """NetworkAccessPointTypeCode; empty: derived from the address."""
    media: str = ""


def audit_message(line: TrailLine, site: Site) -> bytes | None:
    """The audit message for a line, XML in UTF-8; None where DICOM defines no message for its event."""
    ae_title = site.ae_title
    destination = str(line.detail.get("destination", ""))
    peer = site.pacs.get(destination)
    match line.event:
        case "program.started" | "program.stopped":
            kind = _START if line.event.endswith("started") else _STOP
            application = _Participant(str(line.detail.get("program", "corewatch")), False, _APPLICATION, site.host)
            return _xml(line, site, _ACTIVITY, "E", [application], kind=kind)
        case "case.receiving":
            senders = [_Participant(ae or "(dropped file)", True, _SOURCE, host, ae) for ae, host in line.senders]
            return _xml(line, site, _TRANSFERRED, "C", [*senders, _Participant(ae_title, False, _DESTINATION, site.host, ae_title)])
        case "delivery.begun" if peer is not None:
            return _xml(line, site, _BEGIN, "E", _to_peer(site, peer))
        case "delivery.sent" | "delivery.refused" if peer is not None:
            outcome = _SUCCESS if line.event == "delivery.sent" else _MINOR_FAILURE
            return _xml(line, site, _TRANSFERRED, "R", _to_peer(site, peer), outcome=outcome)
        case "letter.accepted" | "letter.refused":
            to = [str(one) for one in line.detail.get("to", ())]
            outcome = _SUCCESS if line.event == "letter.accepted" else _MINOR_FAILURE
            return _xml(line, site, _EXPORT, "R", _export(site, to, _EMAIL), outcome=outcome)
        case "delivery.sent" if destination in (FOLDER, WEBHOOK, WEBHOOK_NOTICES) or destination.startswith(WEBHOOK_REFUSAL):
            return _xml(line, site, _EXPORT, "R", _export(site, [destination], _URI))
        case "alert.acknowledged":
            person = _Participant(str(line.detail.get("by", "")), True, _DESTINATION)
            return _xml(line, site, _ACCESSED, "R", [person, _Participant(ae_title, False, _SOURCE, site.host)])
    return None


def _to_peer(site: Site, peer: ArchivePeer) -> list[_Participant]:
    web = _kind(peer.address) == _URI  # a DICOMweb service has no AE title
    sender = _Participant(site.ae_title, True, _SOURCE, site.host, "" if web else site.ae_title)
    return [sender, _Participant(peer.user, False, _DESTINATION, peer.address, "" if web else peer.user)]


def _export(site: Site, to: Sequence[str], kind: str) -> list[_Participant]:
    media = "110037" if kind == _URI else "110031"  # PS3.16 CID 405: URI, e-mail
    sender = _Participant(site.ae_title, True, _SOURCE, site.host)
    scheme = "mailto:" if kind == _EMAIL else ""  # A.5.2.1 b)
    return [sender, *(_Participant(scheme + one, False, _DESTINATION_MEDIA, one, kind=kind, media=media) for one in to)]


def _xml(
    line: TrailLine,
    site: Site,
    event: tuple[str, str],
    action: str,
    participants: Sequence[_Participant],
    *,
    kind: tuple[str, str] | None = None,
    outcome: str = _SUCCESS,
) -> bytes:
    root = ET.Element("AuditMessage")  # the order is the schema's
    moment = line.at.astimezone(UTC).isoformat(timespec="milliseconds")
    identification = ET.SubElement(
        root, "EventIdentification", EventActionCode=action, EventDateTime=moment, EventOutcomeIndicator=outcome
    )
    _code(identification, "EventID", event)
    if kind is not None:
        _code(identification, "EventTypeCode", kind)
    for one in participants:
        _participant(root, one)
    ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=site.source_id)
    if line.study_uid:
        study = ET.SubElement(
            root,
            "ParticipantObjectIdentification",
            ParticipantObjectID=_clean(line.study_uid),
            ParticipantObjectTypeCode="2",  # system object
            ParticipantObjectTypeCodeRole="3",  # report
        )
        _code(study, "ParticipantObjectIDTypeCode", _STUDY)
        # the schema wants a name or a query of every object
        ET.SubElement(study, "ParticipantObjectName").text = _clean(line.study_uid)
        if line.case_id:
            ET.SubElement(study, "ParticipantObjectDetail", type="corewatch case", value=_base64(line.case_id))
    if line.case_id:
        patient = ET.SubElement(
            root,
            "ParticipantObjectIdentification",
            ParticipantObjectID=_clean(line.patient) or "(unknown)",
            ParticipantObjectTypeCode="1",  # person
            ParticipantObjectTypeCodeRole="1",  # patient
        )
        _code(patient, "ParticipantObjectIDTypeCode", _PATIENT, "RFC-3881")
        ET.SubElement(patient, "ParticipantObjectName").text = _WITHHELD
    xml: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml


def _participant(root: ET.Element, one: _Participant) -> None:
    attributes = {"UserID": _clean(one.user) or "(unknown)", "UserIsRequestor": "true" if one.requestor else "false"}
    if _clean(one.ae_title):
        attributes["AlternativeUserID"] = f"AETITLES={_clean(one.ae_title)}"  # A.5.2.2
    if _clean(one.address):
        attributes |= {
            "NetworkAccessPointID": _clean(one.address),
            "NetworkAccessPointTypeCode": one.kind or _kind(_clean(one.address)),
        }
    participant = ET.SubElement(root, "ActiveParticipant", attributes)
    _code(participant, "RoleIDCode", one.role)
    if one.media:
        media = ET.SubElement(participant, "MediaIdentifier")
        _code(media, "MediaType", (one.media, "URI" if one.kind == _URI else "Email"))


def _kind(address: str) -> str:
    if "://" in address:
        return _URI
    try:
        ip_address(address)
    except ValueError:
        return _MACHINE_NAME
    return _IP_ADDRESS


def _code(parent: ET.Element, name: str, code: tuple[str, str], system: str = "DCM") -> None:
    ET.SubElement(parent, name, {"csd-code": code[0], "codeSystemName": system, "originalText": code[1]})


def _base64(text: str) -> str:
    return b2a_base64(text.encode(), newline=False).decode()


def _clean(text: str) -> str:
    """Remove characters that XML cannot represent."""
    return "".join(letter for letter in text if letter.isprintable())


def syslog_frame(line_id: int, at: datetime, host: str, process: str, xml: bytes) -> bytes:
    """An RFC 5424 message in the frame of RFC 5425 (octet counting).

    `line_id` is the number of the line in the trail: a receiver recognises a repeated message by it (32473: RFC 5612).
    """
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    name = "".join(letter for letter in host if 33 <= ord(letter) <= 126)[:255] or "-"
    head = f'<{PRIORITY}>1 {moment} {name} corewatch {process} {MESSAGE_ID} [corewatch@32473 line="{line_id}"] '
    body = head.encode() + b"\xef\xbb\xbf" + xml
    return str(len(body)).encode() + b" " + body
