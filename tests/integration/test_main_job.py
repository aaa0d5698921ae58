"""The main job on real parts: DCMTK sends, Orthanc is the PACS, a real SMTP server takes the mail, all programs run."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image

from corewatch import RESEARCH_LABEL
from corewatch.reasons import Reason
from corewatch.roles import Role
from corewatch.states import CaseState, DeliveryState
from ledger.cases import Case
from ledger.store import Ledger
from tests.integration.conftest import ONCALL, OPERATORS, STROKE_TEAM, Series
from tests.support.mailbox import Mailbox
from tests.support.net import wait_for
from tests.support.orthanc import Orthanc
from tests.support.portal import signed_in
from tests.support.programs import Corewatch
from tests.support.spoils import Spoil, bottle, cut_short, few, gap, knee, other_modality, without_model
from tests.support.stores import flower_shows, let_time_pass, link_in, redis_holds

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(600)]


def dcmsend(program: str, folder: Path, port: int, called: str = "COREWATCH") -> None:
    """Send a folder with DCMTK; fails unless every image was answered with success."""
    done = subprocess.run(
        [program, "-v", "-aec", called, "-aet", "SCANNER", "+sd", "127.0.0.1", str(port), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with status SUCCESS" in (report := done.stdout + done.stderr), report


def results_in(orthanc: Orthanc, study_uid: str) -> list[dict[str, Any]]:
    """Series of the study in Orthanc; the source was never sent there, so they are all ours."""
    return orthanc.find("Series", StudyInstanceUID=study_uid)


def check_delivered(case: Case, series: Series, corewatch: Corewatch, orthanc: Orthanc, mailbox: Mailbox) -> None:
    """Everything that a delivered case promises."""
    assert case.state is CaseState.DELIVERED, (case.reason, case.detail, corewatch.tail())
    assert case.alert is True
    assert case.side == str(series.side)
    assert case.core_ml is not None
    assert 0.4 * series.core_ml < case.core_ml < 1.8 * series.core_ml

    # the PACS: one result series of each kind in the patient's study, its first page readable there
    ours = {one["MainDicomTags"]["Modality"]: one for one in results_in(orthanc, series.truth.study_uid)}
    assert ours.keys() == {"CT", "SEG", "SR"}
    instances = sorted(
        (orthanc.get(f"/instances/{i}/simplified-tags") | {"ID": i} for i in ours["CT"]["Instances"]),
        key=lambda tags: int(tags["InstanceNumber"]),
    )
    assert len(instances) > 5
    first = instances[0]
    assert first["SOPClassUID"] == "1.2.840.10008.5.1.4.1.1.7"
    assert first["PatientID"] == series.patient_id
    assert Image.open(io.BytesIO(orthanc.picture(first["ID"]))).size[0] >= 512
    referenced = {r["ReferencedSOPInstanceUID"] for r in first["SourceImageSequence"]}
    sent = {str(pydicom.dcmread(p, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for p in series.folder.iterdir()}
    assert referenced
    assert referenced <= sent
    (segment,) = (orthanc.get(f"/instances/{i}/simplified-tags") for i in ours["SEG"]["Instances"])
    outlined = {r["ReferencedSOPInstanceUID"] for r in segment["ReferencedSeriesSequence"][0]["ReferencedInstanceSequence"]}
    assert len(outlined) == int(segment["NumberOfFrames"])
    assert outlined <= sent
    assert segment["FrameOfReferenceUID"] == series.truth.frame_of_reference_uid
    (report,) = (orthanc.get(f"/instances/{i}/simplified-tags") for i in ours["SR"]["Instances"])
    evidence = report["CurrentRequestedProcedureEvidenceSequence"][0]["ReferencedSeriesSequence"]
    assert [one["SeriesInstanceUID"] for one in evidence] == [series.truth.series_uid, segment["SeriesInstanceUID"]]

    # the results folder
    folder = corewatch.folder / "results" / case.case_id
    result = json.loads((folder / "result.json").read_text())
    assert result["state"] == "delivered"
    assert result["core_ml"] == pytest.approx(case.core_ml, abs=0.001)
    assert result["notice"] == RESEARCH_LABEL
    for name in ("aligned.nii.gz", "core_map.nii.gz", "core_map_native.nii.gz", "summary.png"):
        assert (folder / name).stat().st_size > 1000, name
    assert 0 < result["timings_s"]["last_image_to_alert"] < 300
    matrix = np.array(result["alignment"]["matrix_lps_mm_to_voxel"])
    truth = np.array(series.truth.lps_to_network)
    centre = np.linalg.inv(truth) @ np.array([73.0, 91.0, 66.0, 1.0])
    assert np.linalg.norm((matrix @ centre - truth @ centre)[:3]) < 4.0  # mm

    # the mail: once, no patient data, the picture inside
    mails = mailbox.about(case.case_id)
    assert len(mails) == 1
    text = mails[0].as_string()
    assert STROKE_TEAM in str(mails[0]["To"])
    assert series.patient_id not in text
    assert "Phantom" not in text.replace("phantom-demo", "")
    assert any(part.get_content_type() == "image/png" for part in mails[0].walk())
    assert RESEARCH_LABEL.lower() in text.replace("=\n", "").lower()

    assert corewatch.ledger is not None
    states = {d.destination: d.state for d in corewatch.ledger.deliveries.of(case.case_id)}
    assert states == {"orthanc": DeliveryState.SENT, "folder": DeliveryState.SENT, "email": DeliveryState.SENT}


def check_log(corewatch: Corewatch, series: Series) -> None:
    """No patient data in the log, nor a traceback."""
    log = corewatch.log.read_text(errors="replace")
    assert series.patient_id not in log
    assert "Phantom^" not in log
    assert "Traceback" not in log, corewatch.tail(200)


def test_by_c_store(
    corewatch: Corewatch, orthanc: Orthanc, mailbox: Mailbox, stroke_series: Series, tool: Callable[[str], str]
) -> None:
    dcmsend(tool("dcmsend"), stroke_series.folder, corewatch.port)
    [case] = corewatch.ended(1, series_uid=stroke_series.truth.series_uid)
    check_delivered(case, stroke_series, corewatch, orthanc, mailbox)
    check_log(corewatch, stroke_series)

    # the same series once more: nothing new, nothing twice
    before = len(mailbox.mails), len(corewatch.cases())
    dcmsend(tool("dcmsend"), stroke_series.folder, corewatch.port)
    arrivals = list((corewatch.folder / "data" / "received").iterdir())
    wait_for("the second arrival to be taken in", lambda: _finished(corewatch) >= {p.name for p in arrivals}, 60)
    assert (len(mailbox.mails), len(corewatch.cases())) == before


def _finished(corewatch: Corewatch) -> set[str]:
    assert corewatch.ledger is not None
    return set(corewatch.ledger.intake.finished_arrivals())


def test_two_series_at_once(
    corewatch: Corewatch, orthanc: Orthanc, mailbox: Mailbox, new_series: Callable[..., Series], tool: Callable[[str], str]
) -> None:
    both = [new_series("second"), new_series("third", descending=True)]
    senders = [threading.Thread(target=dcmsend, args=(tool("dcmsend"), s.folder, corewatch.port)) for s in both]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    for series in both:
        [case] = corewatch.ended(1, series_uid=series.truth.series_uid)
        check_delivered(case, series, corewatch, orthanc, mailbox)


def test_one_series_over_two_interleaved_associations(
    corewatch: Corewatch,
    orthanc: Orthanc,
    mailbox: Mailbox,
    new_series: Callable[..., Series],
    tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    series = new_series("split")
    halves = [tmp_path / "even", tmp_path / "odd"]
    for half in halves:
        half.mkdir()
    for k, path in enumerate(sorted(series.folder.iterdir())):
        shutil.copy(path, halves[k % 2])
    senders = [threading.Thread(target=dcmsend, args=(tool("dcmsend"), h, corewatch.port)) for h in halves]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    cases = corewatch.ended(1, series_uid=series.truth.series_uid)
    assert [c.revision for c in cases] == [1]
    check_delivered(cases[0], series, corewatch, orthanc, mailbox)


def drop(corewatch: Corewatch, path: Path) -> None:
    """Put a file or folder into the inbox, as a file manager does."""
    target = corewatch.inbox / path.name
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copy(path, target)


def test_by_folder(
    corewatch: Corewatch, orthanc: Orthanc, mailbox: Mailbox, new_series: Callable[..., Series], tmp_path: Path
) -> None:
    series = new_series("folder")
    shutil.copytree(series.folder, tmp_path / "CTA Müller")
    drop(corewatch, tmp_path / "CTA Müller")
    [case] = corewatch.ended(1, series_uid=series.truth.series_uid)
    check_delivered(case, series, corewatch, orthanc, mailbox)
    assert list((corewatch.inbox / "processed").iterdir())
    assert "Müller" not in corewatch.log.read_text(errors="replace")


def test_by_zip(
    corewatch: Corewatch, orthanc: Orthanc, mailbox: Mailbox, new_series: Callable[..., Series], tmp_path: Path
) -> None:
    series = new_series("zip")
    with zipfile.ZipFile(tmp_path / "cta.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in series.folder.iterdir():
            archive.write(path, f"STUDY/{path.name}")
    drop(corewatch, tmp_path / "cta.zip")
    [case] = corewatch.ended(1, series_uid=series.truth.series_uid)
    check_delivered(case, series, corewatch, orthanc, mailbox)


def test_by_aligned_nifti(corewatch: Corewatch, mailbox: Mailbox, stroke_series: Series, tmp_path: Path) -> None:
    [source] = corewatch.ended(1, series_uid=stroke_series.truth.series_uid)
    known = {c.case_id for c in corewatch.cases()}
    shutil.copy(corewatch.folder / "results" / source.case_id / "aligned.nii.gz", tmp_path / "sub-01.nii.gz")
    drop(corewatch, tmp_path / "sub-01.nii.gz")
    new = wait_for(
        "the case of the aligned head",
        lambda: [c for c in corewatch.cases() if c.case_id not in known and c.state is CaseState.DELIVERED],
        180,
    )
    assert len(new) == 1
    assert new[0].core_ml == pytest.approx(source.core_ml, abs=0.01)
    assert new[0].side == source.side
    assert len(mailbox.about(new[0].case_id)) == 1
    assert corewatch.ledger is not None
    states = {d.destination: d.state for d in corewatch.ledger.deliveries.of(new[0].case_id)}
    assert states == {"orthanc": DeliveryState.SKIPPED, "folder": DeliveryState.SENT, "email": DeliveryState.SENT}


@pytest.mark.parametrize(
    ("spoil", "reasons"),
    [
        (few, {Reason.TOO_FEW_SLICES}),
        (gap, {Reason.MISSING_SLICES}),
        (other_modality, {Reason.NOT_CT}),
        (knee, {Reason.NOT_A_HEAD}),
        (bottle, {Reason.NOT_A_HEAD, Reason.ALIGNMENT_NOT_TRUSTED}),
        (cut_short, {Reason.UNREADABLE}),
        (without_model, {Reason.MODEL_MISSING}),
    ],
)
def test_what_cannot_be_analysed_ends_with_its_reason(
    spoil: Spoil,
    reasons: set[Reason],
    corewatch: Corewatch,
    mailbox: Mailbox,
    new_series: Callable[..., Series],
    tool: Callable[[str], str],
) -> None:
    """The sender is answered with success, the case ends with its reason, the operators get it by mail."""
    series = new_series(spoil.__name__, matrix=128, slices=120)
    paths = sorted(series.folder.iterdir(), key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2]))
    for k, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        if spoil(dataset, k):
            dataset.save_as(path)
        else:
            path.unlink()
    dcmsend(tool("dcmsend"), series.folder, corewatch.port)
    [case] = corewatch.ended(1, series_uid=series.truth.series_uid)
    assert case.state is CaseState.NOT_ANALYSED, (case.detail, corewatch.tail())
    assert case.reason in reasons
    [mail] = wait_for("the operators' mail", lambda: mailbox.about(case.case_id), 60)
    assert OPERATORS in str(mail["To"])
    body = mail.get_body(("plain",))
    assert body is not None
    assert case.reason.sentence in " ".join(body.get_content().split())


def test_files_that_are_no_images(corewatch: Corewatch, tmp_path: Path) -> None:
    """Rubbish in the inbox is moved aside with its reason beside it, and stops nothing."""
    (tmp_path / "notes.txt").write_text("not a DICOM file")
    # its end is there, so nothing more is waited for, and tells of a directory that is not
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing" + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, 0, 0))
    for name in ("notes.txt", "broken.zip"):
        drop(corewatch, tmp_path / name)
    rejected = corewatch.inbox / "rejected"
    # each file is moved after its note was written
    wait_for("both files to be rejected", lambda: rejected.is_dir() and len(list(rejected.iterdir())) >= 4, 60)
    assert not (corewatch.inbox / "notes.txt").exists()
    assert len(list(rejected.glob("*reason*"))) == 2
    assert all(p.read_text().strip() for p in rejected.glob("*reason*"))


def test_real_patient(
    corewatch: Corewatch, orthanc: Orthanc, mailbox: Mailbox, shared: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """A CTA of a real head in a known pose arrives, is placed within a few millimetres, and is delivered."""
    script = shared / "tools" / "make_series.py"
    head = shared / "reference" / "deepsymnet" / "sub-0151_aligned.nii.gz"
    out = tmp_path / "real"
    subprocess.run(
        [
            sys.executable,
            str(script),
            str(head),
            str(out),
            "--slices",
            "200",
            "--seed",
            "3",
            "--degrees",
            "12",
            "--millimetres",
            "15",
            "--coverage",
            "230",
        ],
        check=True,
        timeout=300,
    )
    truth = json.loads((out / "truth.json").read_text())
    (out / "truth.json").unlink()
    dcmsend(tool("dcmsend"), out, corewatch.port)
    [case] = corewatch.ended(1, series_uid=truth["series_uid"])
    assert case.state is CaseState.DELIVERED, (case.reason, case.detail)
    assert results_in(orthanc, truth["study_uid"])
    assert len(mailbox.about(case.case_id)) == 1
    result = json.loads((corewatch.folder / "results" / case.case_id / "result.json").read_text())
    found = np.array(result["alignment"]["matrix_lps_mm_to_voxel"])
    known = np.array(truth["scanner_lps_mm_to_aligned_voxel"])
    centre = np.linalg.inv(known) @ np.array([73.0, 91.0, 66.0, 1.0])
    assert np.linalg.norm((found @ centre - known @ centre)[:3]) < 5.0  # mm; the published placement itself varies by some


def test_an_alert_is_escalated_until_somebody_uses_its_link(corewatch: Corewatch, mailbox: Mailbox, stroke_series: Series) -> None:
    [case] = corewatch.ended(1, series_uid=stroke_series.truth.series_uid)
    assert corewatch.ledger is not None
    alerts = corewatch.ledger.alerts
    first = link_in(mailbox.about(case.case_id)[0])
    for method in ("GET", "HEAD", "GET"):  # as mail filters do
        assert requests.request(method, first, timeout=10).status_code == 200
    let_time_pass(corewatch.settings.database_url, case.case_id, 1)
    [told] = wait_for("the escalation's mail", lambda: mailbox.about(case.case_id)[1:], 60)
    assert str(told["To"]) == ONCALL
    assert "NOT ACKNOWLEDGED" in str(told["Subject"])
    assert stroke_series.patient_id not in told.as_string()

    page = requests.post(link_in(told), data={"name": "Dr. Ute Brandt"}, timeout=10)
    assert "Acknowledged" in page.text
    let_time_pass(corewatch.settings.database_url, case.case_id, 2)
    assert [str(level.state) for level in alerts.levels(case.case_id)] == ["posted", "cancelled"]
    seen = alerts.get(case.case_id)
    assert seen is not None
    assert (seen.acknowledged_by, seen.acknowledged_as) == ("Dr. Ute Brandt", "escalation-1")
    events = [line.event for line in corewatch.ledger.cases.history(case.case_id) if line.event.startswith("alert.")]
    assert events == ["alert.raised", "alert.escalated", "alert.acknowledged", "alert.escalation_cancelled"]
    assert len(mailbox.about(case.case_id)) == 2


def test_neither_queue_nor_monitor_knows_a_patient(corewatch: Corewatch, stroke_series: Series) -> None:
    """After all cases above: every key and message of Redis, and every page of the monitor."""
    [case] = corewatch.ended(1, series_uid=stroke_series.truth.series_uid)
    stores = {
        "Redis": redis_holds(corewatch.settings.data_dir / "redis"),
        "Flower": flower_shows(corewatch.settings),
        "ledger": b"".join(path.read_bytes() for path in corewatch.settings.data_dir.glob("ledger.sqlite*")),
    }
    for where, held in stores.items():
        assert case.case_id.encode() in held, where
        for canary in ("PHANTOM-", "Phantom^", "19500101", *({stroke_series.truth.study_uid} if where != "ledger" else ())):
            assert canary.encode() not in held, (where, canary)


def test_a_series_is_in_the_worklist_within_two_seconds(
    corewatch: Corewatch, tool: Callable[[str], str], new_series: Callable[..., Series]
) -> None:
    """From the answer to the last C-STORE to the event and the row; three images, so that nothing is analysed. Takes about 2 s."""
    series = new_series("row", slices=3, matrix=64)
    portal = corewatch.settings.portal
    assert portal is not None
    assert portal.url is not None
    ledger = Ledger(corewatch.settings.database_url)
    try:
        assert ledger.users.add("viewer", "Viewer", [Role.VIEWER], "no password: a link signs in", "test")
        session = signed_in(ledger, portal.url, "viewer")
        with session.get(f"{portal.url}/api/v1/events", stream=True, timeout=30) as stream:
            lines = stream.iter_lines(chunk_size=1)
            assert next(lines).startswith(b"retry:")
            dcmsend(tool("dcmsend"), series.folder, corewatch.port)
            begun = time.monotonic()
            changed = json.loads(next(line for line in lines if line.startswith(b"data: {") and b"case" in line)[6:])
            case = ledger.cases.get(changed["case"])
            assert case is not None
            assert case.series_uid == series.truth.series_uid
            assert f"row-{case.case_id}" in session.get(f"{portal.url}/worklist/rows", timeout=10).text
            assert time.monotonic() - begun < 2
    finally:
        ledger.close()
