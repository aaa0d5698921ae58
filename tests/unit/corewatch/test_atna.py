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


OURS = ("COREWATCH", "true", "110153", "cw01", "1", "AETITLES=COREWATCH")
PARTICIPANTS = {
    # (who, asked for it, role, where, kind of place, AE title), the media of an export; action and outcome of the event
    "received": ([("SCANNER", "true", "110153", "10.0.0.5", "2", "AETITLES=SCANNER"),
                  ("COREWATCH", "false", "110152", "cw01", "1", "AETITLES=COREWATCH")], [], "C", "0"),
    "dropped": ([("(dropped file)", "true", "110153", None, None, None),
                 ("COREWATCH", "false", "110152", "cw01", "1", "AETITLES=COREWATCH")], [], "C", "0"),
    "begun": ([OURS, ("PACS", "false", "110152", "10.0.0.9", "2", "AETITLES=PACS")], [], "E", "0"),
    "stored": ([OURS, ("PACS", "false", "110152", "10.0.0.9", "2", "AETITLES=PACS")], [], "R", "0"),
    "refused": ([OURS, ("PACS", "false", "110152", "10.0.0.9", "2", "AETITLES=PACS")], [], "R", "4"),
    "web": ([("COREWATCH", "true", "110153", "cw01", "1", None), (WEB, "false", "110152", WEB, "5", None)], [], "R", "0"),
    "folder": ([("COREWATCH", "true", "110153", "cw01", "1", None), ("folder", "false", "110154", "folder", "5", None)],
               [("110037", "URI")], "R", "0"),
    "mailed": ([("COREWATCH", "true", "110153", "cw01", "1", None),
                ("mailto:a@x.example", "false", "110154", "a@x.example", "4", None),
                ("mailto:b@x.example", "false", "110154", "b@x.example", "4", None)], [("110031", "Email")] * 2, "R", "0"),
    "seen": ([("Dr. <Ute> & Co", "true", "110152", None, None, None), ("COREWATCH", "false", "110153", "cw01", "1", None)],
             [], "R", "0"),
    "started": ([("watch", "false", "110150", "cw01", "1", None)], [], "E", "0"),
    "stopped": ([("watch", "false", "110150", "cw01", "1", None)], [], "E", "0"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FACTS))
def test_everything_that_a_message_says(name: str) -> None:
    root = ET.fromstring(audit_message(FACTS[name], SITE) or b"")
    who, media, action, outcome = PARTICIPANTS[name]
    keys = ("UserID", "UserIsRequestor", "NetworkAccessPointID", "NetworkAccessPointTypeCode", "AlternativeUserID")
    found = [tuple(p.get(k) for k in keys) for p in root.findall("ActiveParticipant")]
    assert found == [(user, asked, where, kind, title) for user, asked, _, where, kind, title in who]
    roles = [code.attrib for code in root.findall("ActiveParticipant/RoleIDCode")]
    assert [(role["csd-code"], role["codeSystemName"]) for role in roles] == [(role, "DCM") for _, _, role, _, _, _ in who]
    kinds = [code.attrib for code in root.findall("ActiveParticipant/MediaIdentifier/MediaType")]
    assert [(kind["csd-code"], kind["originalText"]) for kind in kinds] == media
    assert (root[0].attrib["EventActionCode"], root[0].attrib["EventOutcomeIndicator"]) == (action, outcome)
    types = [code.attrib["csd-code"] for code in root.findall("EventIdentification/EventTypeCode")]
    assert types == {"started": ["110120"], "stopped": ["110121"]}.get(name, [])
    source = root.find("AuditSourceIdentification")
    assert source is not None
    assert source.attrib == {"AuditSourceID": "corewatch"}


def test_the_study_and_the_case_behind_a_message() -> None:
    def objects(fact: TrailLine) -> list[tuple[str | None, ...]]:
        keys = ("ParticipantObjectID", "ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole")
        found = ET.fromstring(audit_message(fact, SITE) or b"").findall("ParticipantObjectIdentification")
        return [(*map(one.get, keys), one.findtext("ParticipantObjectName"), detail(one)) for one in found]

    def detail(one: ET.Element) -> str | None:
        found = one.find("ParticipantObjectDetail")
        return None if found is None else found.attrib["value"]

    study, patient = ("1.2.3", "2", "3", "1.2.3", "azN2OQ=="), ("P-17", "1", "1", "(withheld)", None)
    assert objects(FACTS["received"]) == [study, patient]
    assert objects(TrailLine(NOW, "case.receiving", {}, None, "1.2.3")) == [(*study[:4], None)]
    assert objects(FACTS["dropped"]) == [("(unknown)", *patient[1:])]
    assert objects(FACTS["started"]) == []


@pytest.mark.parametrize("event", ["delivery.begun", "delivery.sent", "delivery.refused"])
@pytest.mark.parametrize("destination", ["elsewhere", "email", "operators", ""])
def test_a_delivery_to_no_archive_has_no_message_of_a_transfer(event: str, destination: str) -> None:
    assert audit_message(TrailLine(NOW, event, {"destination": destination}, "k3v9", "1.2.3"), SITE) is None


@pytest.mark.parametrize("destination", ["folder", "webhook", "webhook-notices"])
def test_what_leaves_by_a_folder_or_a_webhook_is_an_export(destination: str) -> None:
    xml = audit_message(TrailLine(NOW, "delivery.sent", {"destination": destination}, "k3v9", "1.2.3"), SITE)
    assert xml is not None
    assert b"110106" in xml
    assert audit_message(TrailLine(NOW, "delivery.begun", {"destination": destination}, "k3v9", "1.2.3"), SITE) is None


def test_a_refused_mail_is_an_export_that_failed() -> None:
    root = ET.fromstring(audit_message(TrailLine(NOW, "letter.refused", {"to": ["a@x.example"]}, "k3v9", "1.2.3"), SITE) or b"")
    assert root[0].attrib["EventOutcomeIndicator"] == "4"
    assert root[0][0].attrib["csd-code"] == "110106"


def test_a_program_without_a_name_is_corewatch() -> None:
    root = ET.fromstring(audit_message(TrailLine(NOW, "program.started", {}), SITE) or b"")
    assert [p.attrib["UserID"] for p in root.findall("ActiveParticipant")] == ["corewatch"]


@pytest.mark.parametrize(
    ("host", "name"),
    [("cw 01", "cw01"), ("", "-"), ("\x7f\u00e4 ", "-"), ("!~", "!~"), ("h" * 300, "h" * 255), ("h" * 255, "h" * 255)],
)
def test_a_host_name_is_printable_ascii(host: str, name: str) -> None:
    """RFC 5424 6: PRINTUSASCII, at most 255 characters, a hyphen where there is none."""
    assert syslog_frame(1, NOW, host, "9", b"").split(b" ")[3] == name.encode()
