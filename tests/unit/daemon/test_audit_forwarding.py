"""Audit messages: patient identifier, pseudonym and destinations."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from config.audit import SyslogSettings
from config.delivery import DeliverSettings
from config.settings import Settings
from daemon.upkeep.audit_forwarding import AuditForwarder
from ledger.store import Ledger
from tests.support.ledger import Clock, queued

PATIENT_ID = "KIS-4711"


def write_image(path: Path, patient_id: str) -> None:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, "1.2.0"
    image.PatientID, image.PatientName = patient_id, "Muster^Eva"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def messages(tmp_path: Path, *, real: bool, patient_id: str | None = PATIENT_ID) -> list[bytes]:
    web = {"name": "web", "url": "https://me:secret@archive.example/dicom-web"}
    settings = Settings(data_dir=tmp_path, deliver=DeliverSettings.model_validate({"dicomweb": [web]}))
    clock, sent = Clock(), list[bytes]()

    def keep(_: SyslogSettings, frames: Sequence[bytes]) -> None:
        sent.extend(frames)

    ledger = Ledger(settings.database_url, clock)
    try:
        forwarder = AuditForwarder(ledger, settings, SyslogSettings(host="x", patient_id=real), keep)
        forwarder.step(clock())
        case_id = queued(ledger)
        if patient_id is not None:
            for name in (f"1.2-{k}-x.dcm" for k in range(3)):
                write_image(settings.received_dir / "20261121-a" / name, patient_id)
        ledger.note("delivery.begun", case_id, destination="web")
        ledger.note("delivery.sent", case_id, destination="web")
        forwarder.step(clock())
    finally:
        ledger.close()
    return [frame.partition(b"\xef\xbb\xbf")[2] for frame in sent]


def patients(found: list[bytes]) -> set[str]:
    objects = [one for xml in found for one in ET.fromstring(xml).findall("ParticipantObjectIdentification")]
    return {one.attrib["ParticipantObjectID"] for one in objects if one.get("ParticipantObjectTypeCode") == "1"}


def test_patient_id_is_sent_when_the_settings_allow_it(tmp_path: Path) -> None:
    assert patients(messages(tmp_path, real=True)) == {PATIENT_ID}


def test_pseudonym_is_sent_otherwise(tmp_path: Path) -> None:
    found = messages(tmp_path / "a", real=False)
    [pseudonym] = patients(found)
    assert len(pseudonym) == 32
    assert PATIENT_ID.encode() not in b"".join(found)
    assert patients(messages(tmp_path / "b", real=False)) != {pseudonym}, "of no use without the key"
    for one in (tmp_path / "c", tmp_path / "d"):
        one.mkdir()
        (one / "own.key").write_bytes((tmp_path / "a" / "own.key").read_bytes())
    assert patients(messages(tmp_path / "c", real=False)) == {pseudonym}, "the same patient, the same pseudonym"
    assert patients(messages(tmp_path / "d", real=False, patient_id="other")) != {pseudonym}


@pytest.mark.parametrize("patient_id", [None, ""])
def test_patient_is_unknown_when_the_files_are_removed_or_have_no_id(tmp_path: Path, patient_id: str | None) -> None:
    assert patients(messages(tmp_path, real=True, patient_id=patient_id)) == {"(unknown)"}


def test_no_name_and_no_login_in_any_message(tmp_path: Path) -> None:
    text = b"".join(messages(tmp_path, real=True))
    assert b"Muster" not in text
    assert b"secret" not in text


def test_dicomweb_transfers_have_their_messages(tmp_path: Path) -> None:
    roots = [ET.fromstring(xml) for xml in messages(tmp_path, real=False)]
    events = [(event.attrib["csd-code"]) for root in roots for event in root.findall("EventIdentification/EventID")]
    assert events == ["110104", "110102", "110104"], "received, begun, stored"
    assert roots[2].findall("ActiveParticipant")[1].attrib["UserID"] == "https://archive.example/dicom-web"
