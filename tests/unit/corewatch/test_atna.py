"""DICOM audit messages: what the schema of PS3.15 A.5.1 asks of each, and the frames of RFC 5424 and 5425."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corewatch.atna import ArchivePeer, Site, TrailLine, audit_message, syslog_frame

NOW = datetime(2026, 11, 21, 3, 0, 0, 123456, tzinfo=UTC)
WEB = "https://archive.example/dicom-web"
SITE = Site("corewatch", "COREWATCH", "cw01", {"main": ArchivePeer("PACS", "10.0.0.9"), "web": ArchivePeer(WEB, WEB)})
CODE = {"csd-code", "codeSystemName", "originalText"}

RULES: dict[str, tuple[set[str], set[str], list[str]]] = {
    # element: (attributes that must be there, that may be there, children in the schema's order with how often)
    "AuditMessage": (
        set(), set(),
        ["EventIdentification", "ActiveParticipant+", "AuditSourceIdentification", "ParticipantObjectIdentification*"],
    ),
    "EventIdentification": ({"EventDateTime", "EventOutcomeIndicator"}, {"EventActionCode"}, ["EventID", "EventTypeCode*"]),
    "EventID": (CODE, {"displayName"}, []),
    "EventTypeCode": (CODE, {"displayName"}, []),
    "ActiveParticipant": (
        {"UserID", "UserIsRequestor"}, {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        ["RoleIDCode*", "MediaIdentifier?"],
    ),
    "RoleIDCode": (CODE, {"displayName"}, []),
    "MediaIdentifier": (set(), set(), ["MediaType"]),
    "MediaType": (CODE, {"displayName"}, []),
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"}, ["AuditSourceTypeCode*"]),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID"}, {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"},
        ["ParticipantObjectIDTypeCode", "ParticipantObjectName", "ParticipantObjectDetail*"],
    ),
    "ParticipantObjectIDTypeCode": (CODE, {"displayName"}, []),
    "ParticipantObjectName": (set(), set(), []),
    "ParticipantObjectDetail": ({"type", "value"}, set(), []),
}  # fmt: skip
VALUES = {
    "EventActionCode": "[CRUDE]",
    "EventOutcomeIndicator": "0|4|8|12",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00",
    "UserIsRequestor": "true|false",
    "NetworkAccessPointTypeCode": "[1-5]",
    "ParticipantObjectTypeCode": "[1-4]",
    "ParticipantObjectTypeCodeRole": "[1-9]|1\\d|2[0-4]",
    "value": "[A-Za-z0-9+/]+=*",
}


def check(element: ET.Element) -> None:
    must, may, children = RULES[element.tag]
    assert must <= set(element.attrib) <= must | may, element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(VALUES.get(name, "(?s).+"), value), (element.tag, name, value)
    assert ("NetworkAccessPointID" in element.attrib) == ("NetworkAccessPointTypeCode" in element.attrib)
    pattern = "".join(f"(?:{child.rstrip('+*?')} ){child[-1] if child[-1] in '+*?' else ''}" for child in children)
    assert re.fullmatch(pattern, "".join(f"{child.tag} " for child in element)), (element.tag, [c.tag for c in element])
    for child in element:
        check(child)


FACTS = {
    "received": TrailLine(NOW, "case.receiving", {}, "k3v9", "1.2.3", [("SCANNER", "10.0.0.5")], "P-17"),
    "dropped": TrailLine(NOW, "case.receiving", {}, "k3v9", None, [("", "")]),
    "begun": TrailLine(NOW, "delivery.begun", {"destination": "main"}, "k3v9", "1.2.3"),
    "stored": TrailLine(NOW, "delivery.sent", {"destination": "main"}, "k3v9", "1.2.3"),
    "refused": TrailLine(NOW, "delivery.refused", {"destination": "main"}, "k3v9", "1.2.3"),
    "web": TrailLine(NOW, "delivery.sent", {"destination": "web"}, "k3v9", "1.2.3"),
    "folder": TrailLine(NOW, "delivery.sent", {"destination": "folder"}, "k3v9", "1.2.3"),
    "mailed": TrailLine(NOW, "letter.accepted", {"to": ["a@x.example", "b@x.example"]}, "k3v9", "1.2.3"),
    "seen": TrailLine(NOW, "alert.acknowledged", {"by": "Dr. <Ute> & Co"}, "k3v9", "1.2.3"),
    "started": TrailLine(NOW, "program.started", {"program": "watch"}),
    "stopped": TrailLine(NOW, "program.stopped", {"program": "watch"}),
}
EVENTS = {
    "received": "110104", "dropped": "110104", "begun": "110102", "stored": "110104", "refused": "110104", "web": "110104",
    "folder": "110106",
    "mailed": "110106", "seen": "110103", "started": "110100", "stopped": "110100",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FACTS))
def test_each_message_keeps_to_the_schema(name: str) -> None:
    xml = audit_message(FACTS[name], SITE)
    assert xml is not None
    root = ET.fromstring(xml)
    check(root)
    event = root.find("EventIdentification/EventID")
    assert event is not None
    assert event.attrib["csd-code"] == EVENTS[name]


def test_who_did_what_to_whom() -> None:
    root = ET.fromstring(audit_message(FACTS["stored"], SITE) or b"")
    parts = [(p.attrib["UserID"], p.attrib["UserIsRequestor"], p[0].attrib["csd-code"]) for p in root.findall("ActiveParticipant")]
    assert parts == [("COREWATCH", "true", "110153"), ("PACS", "false", "110152")]
    study = root.find("ParticipantObjectIdentification")
    assert study is not None
    assert study.attrib["ParticipantObjectID"] == "1.2.3"
    failed = ET.fromstring(audit_message(FACTS["refused"], SITE) or b"")
    assert failed[0].attrib["EventOutcomeIndicator"] == "4"
    mailed = ET.fromstring(audit_message(FACTS["mailed"], SITE) or b"")
    assert [p.attrib["UserID"] for p in mailed.findall("ActiveParticipant")][1:] == ["mailto:a@x.example", "mailto:b@x.example"]


def test_how_participants_are_reached() -> None:
    def reached(name: str) -> list[tuple[str | None, ...]]:
        keys = ("AlternativeUserID", "NetworkAccessPointID", "NetworkAccessPointTypeCode")
        return [
            tuple(map(p.get, keys)) for p in ET.fromstring(audit_message(FACTS[name], SITE) or b"").findall("ActiveParticipant")
        ]

    assert reached("stored") == [("AETITLES=COREWATCH", "cw01", "1"), ("AETITLES=PACS", "10.0.0.9", "2")]
    assert reached("web") == [(None, "cw01", "1"), (None, WEB, "5")]
    assert reached("mailed")[1] == (None, "a@x.example", "4")


@pytest.mark.parametrize("name", sorted(FACTS.keys() - {"started", "stopped"}))
def test_the_patient_is_a_participant(name: str) -> None:
    """A.5.3.3, .4, .6 and .7: one patient each."""
    found = [p for p in ET.fromstring(audit_message(FACTS[name], SITE) or b"") if p.get("ParticipantObjectTypeCode") == "1"]
    assert [p.attrib["ParticipantObjectTypeCodeRole"] for p in found] == ["1"]
    assert found[0].attrib["ParticipantObjectID"] == ("P-17" if name == "received" else "(unknown)")
    assert found[0][0].attrib == {"csd-code": "2", "codeSystemName": "RFC-3881", "originalText": "Patient Number"}


@pytest.mark.parametrize("event", ["work.posted_again", "stage.detect.begun", "delivery.skipped", "clock.set"])
def test_the_rest_has_no_message(event: str) -> None:
    assert audit_message(TrailLine(NOW, event, {"destination": "main"}, "k3v9", "1.2.3"), SITE) is None


@given(st.text(), st.text(), st.text(min_size=1))
def test_whatever_others_call_themselves_it_stays_xml(name: str, host: str, uid: str) -> None:
    senders = [(name, host)]
    xml = audit_message(TrailLine(NOW, "case.receiving", {}, "k3v9", "1.2.3" + uid, senders), SITE)
    assert xml is not None
    check(ET.fromstring(xml))
    seen = audit_message(TrailLine(NOW, "alert.acknowledged", {"by": uid}, "k3v9"), SITE)
    assert seen is not None
    check(ET.fromstring(seen))


def test_the_frame() -> None:
    frame = syslog_frame(42, NOW, "cw 01", "123", b"<x/>")
    count, _, body = frame.partition(b" ")
    assert int(count) == len(body)
    head, _, xml = body.partition(b"\xef\xbb\xbf")
    assert head == b'<85>1 2026-11-21T03:00:00.123Z cw01 corewatch 123 DICOM+RFC3881 [corewatch@32473 line="42"] '
    assert xml == b"<x/>"
