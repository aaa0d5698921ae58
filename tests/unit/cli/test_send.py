"""`corewatch send`, the demonstration's stand-ins and its verdict, and `corewatch model`."""

from __future__ import annotations

import json
import logging
import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from cli.commands.model import default_name
from cli.commands.send import dicom_files
from cli.demonstration.report import problems_of
from cli.demonstration.stand_ins import PACS_AE_TITLE, MailSink, PacsStandIn, free_port
from cli.main import corewatch
from corewatch.casefolder import CaseFolder
from corewatch.states import CaseState, DeliveryState
from ledger.cases import Case
from ledger.deliveries import Delivery

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def write_object(path: Path, uid: str) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    dataset.PatientID = "PHANTOM"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command sets logging up for its own process, which here is the tests'."""
    root, dicom = logging.getLogger(), logging.getLogger("pynetdicom")
    handlers, level, dicom_level = root.handlers[:], root.level, dicom.level
    yield
    root.handlers[:], root.level = handlers, level
    dicom.setLevel(dicom_level)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_object(tmp_path / "in" / "b.dcm", "2.25.2")
    write_object(tmp_path / "in" / "deep" / "noending", "2.25.1")
    (tmp_path / "in" / "readme.txt").write_text("not an image")
    write_object(tmp_path / "in" / "DICOMDIR", "2.25.3")
    return tmp_path / "in"


def test_only_dicom_files_are_taken(folder: Path) -> None:
    files, left_out = dicom_files(folder)
    assert [f.name for f in files] == ["b.dcm", "noending"]
    assert left_out == 2
    assert dicom_files(folder / "b.dcm") == ([folder / "b.dcm"], 0)


def test_send_stores_every_file(folder: Path, tmp_path: Path) -> None:
    with PacsStandIn(tmp_path / "pacs") as pacs:
        result = CliRunner().invoke(corewatch, ["send", str(folder), f"127.0.0.1:{pacs.port}", "--called", PACS_AE_TITLE, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"files": 2, "left_out": 2, "accepted": 2, "warning": 0, "failed": 0}
    assert {p.name for p in pacs.received} == {"2.25.1.dcm", "2.25.2.dcm"}
    assert sorted(pacs.folder.iterdir()) == sorted(pacs.received)


def test_the_same_object_twice_is_one_file(folder: Path, tmp_path: Path) -> None:
    with PacsStandIn(tmp_path / "pacs") as pacs:
        for _ in range(2):
            CliRunner().invoke(corewatch, ["send", str(folder / "b.dcm"), f"127.0.0.1:{pacs.port}", "--called", PACS_AE_TITLE])
    assert len(pacs.received) == 1


def test_what_the_peer_does_not_store_is_printed_and_fails(folder: Path, tmp_path: Path) -> None:
    with PacsStandIn(tmp_path / "pacs") as pacs:
        (pacs.folder / "2.25.2.dcm").mkdir()
        result = CliRunner().invoke(corewatch, ["send", str(folder), f"127.0.0.1:{pacs.port}", "--called", PACS_AE_TITLE])
    assert result.exit_code == 4
    assert "b.dcm: 0xA700" in result.stderr
    assert "1 of 2 files stored" in result.stdout


def test_nobody_there_fails_in_one_line(folder: Path) -> None:
    result = CliRunner().invoke(corewatch, ["send", str(folder), f"127.0.0.1:{free_port()}"])
    assert result.exit_code == 4
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_folder_without_dicom_is_a_usage_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(corewatch, ["send", str(tmp_path), "127.0.0.1:104"]).exit_code == 2


@pytest.mark.parametrize("peer", ["host", "host:", ":104", "host:http", "host:0", "host:65536"])
def test_a_peer_is_host_and_port(peer: str, folder: Path) -> None:
    result = CliRunner().invoke(corewatch, ["send", str(folder), peer])
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


def test_the_mail_sink_keeps_messages(tmp_path: Path) -> None:
    with MailSink(tmp_path / "mail") as sink:
        for word in ("one", "two"):
            with smtplib.SMTP("127.0.0.1", sink.port, timeout=10) as client:
                client.sendmail("a@demo.invalid", ["b@demo.invalid"], f"Subject: {word}\r\n\r\nbody\r\n")
    assert [p.read_text().splitlines()[0] for p in sink.received] == ["Subject: one", "Subject: two"]


@pytest.mark.parametrize(
    ("source", "name"),
    [("weights.h5", "weights"), ("/a/Deep Sym_Net.h5", "deep-sym-net"), ("https://h.example/m/core.v2.h5?token=x", "core-v2")],
)
def test_a_model_is_named_after_its_file(source: str, name: str) -> None:
    assert default_name(source) == name


class TestVerdict:
    """The demonstration succeeds only if the result really arrived everywhere."""

    @pytest.fixture
    def results(self, tmp_path: Path) -> CaseFolder:
        folder = CaseFolder(tmp_path / "results" / "abc")
        write_object(folder.dicom / "sc.dcm", "2.25.9")
        for file in (folder.aligned, folder.core_map, folder.summary, folder.result):
            file.write_bytes(b"x")
        return folder

    def case(self, state: CaseState = CaseState.DELIVERED) -> Case:
        return Case(
            case_id="abc", case_key="k", study_uid="1", series_uid="2", revision=1, aligned_path=None, state=state, reason=None,
            detail="", failed_stage=None, superseded_by=None, model=None, email=(), attempts=0, holder=None, lease_until=None,
            created_at=NOW, last_stored_at=NOW, updated_at=NOW, core_ml=60.0, side="left", alert=True, files_removed=False,
            cautions=None,
        )  # fmt: skip

    def sent(self, **others: DeliveryState) -> list[Delivery]:
        states = dict.fromkeys(("pacs", "folder", "email"), DeliveryState.SENT) | others
        return [
            Delivery("abc", name, state, NOW, 1, None, None, "", NOW, holder=None, digest=None) for name, state in states.items()
        ]

    def test_all_there(self, results: CaseFolder, tmp_path: Path) -> None:
        assert problems_of(self.case(), self.sent(), results, [tmp_path / "o"], [tmp_path / "m"]) == []

    def test_each_gap_is_named(self, results: CaseFolder, tmp_path: Path) -> None:
        here, there = [tmp_path / "o"], [tmp_path / "m"]
        assert problems_of(self.case(CaseState.FAILED), self.sent(), results, here, there) == ["the case ended as failed"]
        assert problems_of(self.case(), self.sent(email=DeliveryState.SKIPPED), results, here, there) == ["email: skipped"]
        assert problems_of(self.case(), self.sent()[1:], results, here, there) == ["pacs: not planned"]
        assert problems_of(self.case(), self.sent(), results, here, []) == ["no mail arrived"]
        assert problems_of(self.case(), self.sent(), results, [], there) == ["the PACS stand-in has 0 objects, the case made 1"]
        results.core_map.unlink()
        assert problems_of(self.case(), self.sent(), results, here, there) == ["the results folder lacks core_map.nii.gz"]
