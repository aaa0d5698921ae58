"""Every setting of a destination reaches it, and the header that its pages need is left for it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pydicom
import pytest

import worker.delivery.destinations
from config.settings import Settings
from corewatch.casefolder import CaseFolder
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from outputs.destinations.dicomweb import DicomwebParameters
from outputs.destinations.pacs import CommitmentTerms
from outputs.destinations.registry import DestinationParameters
from outputs.destinations.stow import WebServer
from tests.support_conversion import stack, write
from worker.stages.prepare import DicomSource, prepare

PACS = {"name": "main", "ae_title": "PACS", "host": "h", "port": 104}


def test_what_the_settings_say_of_a_pacs_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DestinationParameters] = []
    monkeypatch.setattr(worker.delivery.destinations, "build_destinations", lambda parameters, **_: seen.append(parameters) or {})
    said = {
        **PACS,
        "our_ae_title": "CW",
        "timeout_s": 7.0,
        "objects": ["sc"],
        "not_analysed": True,
        "tls": {"certificate": "c", "key": "k", "authority": "a"},
        "commitment": True,
        "commitment_wait_s": 3.0,
        "commitment_patience_h": 12.0,
    }
    settings = Settings.model_validate({"deliver": {"pacs": [said]}})
    assert set(said) == set(type(settings.deliver.pacs[0]).model_fields), "a new key needs a place here and in the destination"
    worker.delivery.destinations.destinations_of(settings)
    [pacs] = seen[0].pacs
    for key, value in said.items():
        if key != "tls" and not key.startswith("commitment"):
            assert getattr(pacs, key) == (tuple(value) if isinstance(value, list) else value), key
    assert pacs.commitment == CommitmentTerms(3.0, timedelta(hours=12))
    assert pacs.tls is not None
    assert (pacs.tls.certificate, pacs.tls.key, pacs.tls.authority) == (Path("c"), Path("k"), Path("a"))


def test_what_the_settings_say_of_a_web_archive_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DestinationParameters] = []
    monkeypatch.setattr(worker.delivery.destinations, "build_destinations", lambda parameters, **_: seen.append(parameters) or {})
    said = {
        "name": "web",
        "url": "https://archive.example/dicom-web",
        "user": "u",
        "password": "p",
        "authority": "a",
        "certificate": "c",
        "key": "k",
        "objects": ["sc"],
        "not_analysed": True,
        "timeout_s": 7.0,
    }
    settings = Settings.model_validate({"deliver": {"dicomweb": [said]}})
    assert set(said) == set(type(settings.deliver.dicomweb[0]).model_fields), "a new key needs a place here and in the destination"
    worker.delivery.destinations.destinations_of(settings)
    [archive] = seen[0].dicomweb
    server = WebServer(str(said["url"]), "u", "p", Path("a"), Path("c"), Path("k"), 7.0)
    assert archive == DicomwebParameters("web", server, ("sc",), not_analysed=True)
    assert settings.deliver.not_analysed_notices == ("folder", "web")


def test_who_hears_of_what_ends_without_a_finding() -> None:
    wants = {**PACS, "name": "wants", "not_analysed": True}
    deliver = Settings.model_validate({"deliver": {"pacs": [PACS, wants]}}).deliver
    assert deliver.notices == ("folder",)
    assert deliver.not_analysed_notices == ("folder", "wants")


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
