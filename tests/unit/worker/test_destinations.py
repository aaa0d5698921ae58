"""Every setting of a destination reaches it, and the header that its pages need is left for it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from config.settings import Settings
from corewatch.casefolder import CaseFolder
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from foundation.dicom_client.association import TlsFiles
from outputs.destinations import pacs
from outputs.destinations.archive import no_progress
from tests.support_conversion import stack, write
from worker.context import destinations_of
from worker.stages.prepare import DicomSource, prepare

PACS = {"name": "main", "ae_title": "PACS", "host": "h", "port": 104}


TLS = {"certificate": "c", "key": "k", "authority": "a"}


@pytest.mark.parametrize(
    ("more", "calling_ae", "tls", "patience"),
    [
        ({}, "LISTENER", None, None),
        ({"our_ae_title": "CW"}, "CW", None, None),
        ({"tls": TLS}, "LISTENER", TlsFiles(Path("c"), Path("k"), Path("a"), check_hostname=True), None),
        ({"commitment_patience_h": 12.0}, "LISTENER", None, None),
        ({"commitment": True, "commitment_patience_h": 12.0}, "LISTENER", None, timedelta(hours=12)),
    ],
)
def test_the_settings_of_a_pacs(
    more: dict[str, Any], calling_ae: str, tls: TlsFiles | None, patience: timedelta | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {}
    monkeypatch.setattr(pacs, "send_files", lambda _paths, **how: sent.update(how) or ())
    settings = Settings.model_validate(
        {"listener": {"ae_title": "LISTENER"}, "deliver": {"pacs": [{**PACS, "timeout_s": 7.0, **more}]}}
    )
    destination = destinations_of(settings)["main"]
    assert isinstance(destination, pacs.PacsDestination)
    destination.send([], no_progress, 60.0)
    assert sent == {"host": "h", "port": 104, "called_ae": "PACS", "calling_ae": calling_ae, "timeout_s": 7.0, "tls": tls} | {
        "progress": no_progress,
        "attempt_s": 60.0,
    }
    assert destination.commitment_patience == patience
    assert (destination.server, destination.address) == ("main", "PACS at h:104")


def test_who_hears_of_what_ends_without_a_finding() -> None:
    wants, web = {**PACS, "name": "wants", "not_analysed": True}, {"name": "web", "url": "http://h", "not_analysed": True}
    deliver = Settings.model_validate({"deliver": {"dicomweb": [web], "pacs": [PACS, wants]}}).deliver
    assert deliver.notices == ("folder",)
    assert deliver.not_analysed_notices == ("folder", "wants", "web")
    email, hook = {"host": "h", "from": "a@b.example"}, {"url": "https://h", "secret": "x" * 16}
    deliver = Settings.model_validate({"deliver": {"email": email, "webhook": {**hook, "not_analysed": True}}}).deliver
    assert deliver.notices == deliver.not_analysed_notices == ("operators", "webhook-notices", "folder")
    deliver = Settings.model_validate({"deliver": {"webhook": hook, "folder": None}}).deliver
    assert deliver.notices == ()


def test_a_series_that_cannot_be_converted_leaves_the_header_of_its_study(tmp_path: Path) -> None:
    paths = write(tmp_path / "in", stack([0.0, 1.0, 2.0, 3.0, 9.0, 10.0, 11.0]))
    folder = CaseFolder(tmp_path / "case")
    with pytest.raises(NotAnalysed) as caught:
        prepare(DicomSource(tuple(paths)), folder, minimum_score=None)
    assert caught.value.reason is Reason.MISSING_SLICES
    assert pydicom.dcmread(folder.source_header).PatientID == "P1"
    assert not folder.aligned.exists()


@pytest.mark.parametrize("change", [{"PatientID": "P2"}, {"PatientID": ""}, {"StudyInstanceUID": "1.2.3"}])
def test_no_header_where_patient_or_study_are_in_doubt(tmp_path: Path, change: dict[str, str]) -> None:
    datasets = [*stack([0.0, 1.0, 2.0, 3.0]), *stack([9.0, 10.0], **change)]
    for n, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = f"1.2.3.{n + 1}"
    folder = CaseFolder(tmp_path / "case")
    with pytest.raises(NotAnalysed):
        prepare(DicomSource(tuple(write(tmp_path / "in", datasets))), folder, minimum_score=None)
    assert not folder.source_header.exists()
