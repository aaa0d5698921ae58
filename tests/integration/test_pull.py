"""Fetching a study that was never sent to us, from a real Orthanc, by the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove

from cli.checks import Level
from cli.checks.peers import sources
from cli.command_group import ExitCode
from cli.main import corewatch
from config import Settings, load_settings
from corewatch.errors import RetryLater
from daemon.intake.expected_counts import query_over_network
from foundation.dicom_client.association import PeerAddress
from foundation.dicom_client.query import find_series, find_studies
from tests.support.listener import arrivals, closing, ct_slice, file_bytes, images, running
from tests.support.net import free_port
from tests.support.orthanc import Orthanc

STUDY, ONLY_MR = "1.2.826.0.1.77", "1.2.826.0.1.78"
SLICES = 4


def instance(study: str, series: str, number: int, sop_class: str, modality: str) -> Dataset:
    ds = ct_slice(number, sop_class=sop_class)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series, f"{series}.{number}"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Modality, ds.SeriesDescription, ds.AccessionNumber, ds.PatientID = modality, f"CTA {series[-1]}", f"A{study[-2:]}", "P"
    return ds


def fill(orthanc: Orthanc, folder: Path) -> None:
    """A study of two CT series and a screen capture, and one of MR alone."""
    made = [instance(STUDY, f"{STUDY}.{s}", n, CTImageStorage, "CT") for s in (1, 2) for n in range(1, SLICES + 1)]
    made.append(instance(STUDY, f"{STUDY}.9", 1, SecondaryCaptureImageStorage, "OT"))
    made.append(instance(ONLY_MR, f"{ONLY_MR}.1", 1, MRImageStorage, "MR"))
    for number, ds in enumerate(made):
        path = folder / f"{number}.dcm"
        path.write_bytes(file_bytes(ds))
        orthanc.upload(path)


@dataclass
class Archive:
    """A PACS with two studies that knows our listener's port."""

    orthanc: Orthanc
    our_port: int


@pytest.fixture(scope="module")
def archive(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder, port = tmp_path_factory.mktemp("pull"), free_port()
    modalities = {"corewatch": ["COREWATCH", "127.0.0.1", port]}
    server = Orthanc(tool("Orthanc"), folder / "orthanc", DicomModalities=modalities, DicomAlwaysAllowGet=True)
    fill(server, folder)
    yield Archive(server, port)
    server.stop()


@dataclass
class Here:
    """Our side."""

    file: Path
    settings: Settings

    def pull(self, *arguments: str) -> Result:
        return CliRunner().invoke(corewatch, ["pull", *arguments, "--config", str(self.file)])


def here(folder: Path, *, listen: int = 11112, **source: object) -> Here:
    file = folder / "corewatch.yaml"
    first = {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "timeout_s": 5.0, "retrieve_timeout_s": 10.0} | source
    listener = {"host": "127.0.0.1", "port": listen, "reserve_gib": 0}
    file.write_text(yaml.safe_dump({"data_dir": str(folder / "data"), "sources": [first], "listener": listener}))
    return Here(file, load_settings(file, {}))


def stored(settings: Settings) -> int:
    return sum(len(images(folder)) for folder in arrivals(settings))


@pytest.mark.parametrize("named", [("--study", STUDY), ("--accession", "A77")])
def test_move(archive: Archive, tmp_path: Path, named: tuple[str, str]) -> None:
    ours = here(tmp_path, listen=archive.our_port, port=archive.orthanc.dicom)
    with running(ours.settings):
        done = ours.pull(*named, "--json")
    assert done.exit_code == ExitCode.DONE, done.output
    answer = json.loads(done.stdout)
    assert answer["left_out"] == 1
    assert sorted((s["series_uid"], s["instances"], s["completed"], s["failed"]) for s in answer["series"]) == [
        (f"{STUDY}.{s}", SLICES, SLICES, 0) for s in (1, 2)
    ]
    assert stored(ours.settings) == 2 * SLICES


def test_get_needs_no_listener(archive: Archive, tmp_path: Path) -> None:
    ours = here(tmp_path, port=archive.orthanc.dicom, retrieve="get")
    done = ours.pull("--study", STUDY, "--from", "pacs")
    assert done.exit_code == ExitCode.DONE, done.output
    assert f"CTA 1: {SLICES} of {SLICES} images" in done.stdout
    assert "2 CT series of this study; 1 of other modalities" in done.stderr
    assert stored(ours.settings) == 2 * SLICES
    assert [closing(folder)["outcome"] for folder in arrivals(ours.settings)] == ["released", "released"]
    first = json.loads((arrivals(ours.settings)[0] / "arrival.json").read_bytes())
    assert (first["peer_ae_title"], first["peer_host"]) == ("ORTHANC", "127.0.0.1")


@pytest.mark.parametrize("way", ["move", "get"])
def test_doctor_asks_the_source(archive: Archive, tmp_path: Path, way: str) -> None:
    [found] = sources(here(tmp_path, port=archive.orthanc.dicom, retrieve=way).settings)
    assert (found.subject, found.level) == ("from pacs", Level.OK)
    assert f"C-{way.upper()}" in found.found


def test_a_listener_that_does_not_run_is_told(archive: Archive, tmp_path: Path) -> None:
    done = here(tmp_path, listen=archive.our_port, port=archive.orthanc.dicom).pull("--study", STUDY)
    assert done.exit_code == ExitCode.FAILED
    assert "listen" in done.output


def test_an_unknown_study_is_told(archive: Archive, tmp_path: Path) -> None:
    done = here(tmp_path, port=archive.orthanc.dicom).pull("--study", "1.2.3")
    assert done.exit_code == ExitCode.FAILED
    assert "does not know this study" in done.output


def test_a_study_without_ct_has_nothing_to_analyse(archive: Archive, tmp_path: Path) -> None:
    done = here(tmp_path, port=archive.orthanc.dicom).pull("--study", ONLY_MR)
    assert done.exit_code == ExitCode.NOT_ANALYSED
    assert "no CT series" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--study UID or --accession"),
        (("--study", "1.2", "--accession", "A"), "--study UID or --accession"),
        (("--study", "*"), "is not a UID"),
        (("--accession", "A*"), "wildcards"),
        (("--accession", " "), "--study UID or --accession"),  # DICOM does not see spaces: it would ask for everything
        (("--study", "1.2", "--from", "other"), "there is no source 'other'"),
    ],
)
def test_a_request_that_cannot_be_meant(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = here(tmp_path, port=104).pull(*arguments)
    assert done.exit_code == ExitCode.USAGE
    assert words in done.output


def test_no_source_in_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "corewatch.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(tmp_path)}))
    done = CliRunner().invoke(corewatch, ["pull", "--study", "1.2", "--config", str(file)])
    assert done.exit_code == ExitCode.USAGE
    assert "`sources`" in done.output


def test_a_pacs_that_does_not_know_us(tool: Callable[[str], str], tmp_path: Path) -> None:
    """Neither as a caller that may query, nor as a destination."""
    strict = Orthanc(tool("Orthanc"), tmp_path / "strict", DicomAlwaysAllowFind=False, DicomAlwaysAllowEcho=False)
    try:
        done = here(tmp_path, port=strict.dicom).pull("--study", STUDY)
    finally:
        strict.stop()
    assert done.exit_code == ExitCode.FAILED
    assert "COREWATCH" in done.output


@contextmanager
def answering(on_find: Callable[[evt.Event], Iterator[tuple[int, Dataset | None]]]) -> Iterator[PeerAddress]:
    """A PACS that answers C-FIND as no real one would."""
    ae = AE(ae_title="ORTHANC")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    assert server is not None
    try:
        yield PeerAddress("127.0.0.1", server.socket.getsockname()[1], "ORTHANC", "COREWATCH", 10.0)
    finally:
        ae.shutdown()


@pytest.mark.filterwarnings("ignore:.*(value|Invalid)")
def test_what_a_pacs_says_cannot_write_to_the_terminal() -> None:
    def on_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        answer = Dataset()
        answer.StudyInstanceUID, answer.SeriesInstanceUID = event.identifier.StudyInstanceUID, f"{STUDY}.1"
        answer.Modality, answer.SeriesDescription = "CT", "CTA\x1b]0;owned\x07\n\x9b2J" + "x" * 5000
        yield 0xFF00, answer

    with answering(on_find) as peer:
        [found] = find_series(peer, STUDY)
    assert found.description.startswith("CTA")
    assert found.description.isprintable()
    assert len(found.description) <= 64


@pytest.mark.parametrize(("named", "wanted"), [({"accession": "A77"}, [STUDY]), ({"study_uid": ONLY_MR}, [ONLY_MR])])
def test_studies_that_nobody_asked_for_are_left_out(named: dict[str, str], wanted: list[str]) -> None:
    """A PACS that does not know a key takes it for a wildcard."""

    def on_find(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for study in (STUDY, ONLY_MR, "1.2.826.0.1.79"):
            answer = Dataset()
            answer.StudyInstanceUID, answer.AccessionNumber = study, f"A{study[-2:]}"
            yield 0xFF00, answer

    with answering(on_find) as peer:
        assert find_studies(peer, **named) == wanted


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0xA801, "does not know the move destination 'COREWATCH'; enter there"),
        (0xA702, "look at its load"),
        (0xC001, "retrieve from it"),
    ],
)
def test_a_pacs_that_refuses_to_send(tmp_path: Path, status: int, words: str) -> None:
    find, move = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove

    def on_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        answer = Dataset()
        answer.update({e.tag: e for e in event.identifier})
        if event.identifier.QueryRetrieveLevel == "SERIES":
            answer.SeriesInstanceUID, answer.Modality = "1.2.1", "CT"
        yield 0xFF00, answer

    def on_move(_event: evt.Event) -> Iterator[object]:
        # it can reach where it is to send to, which is itself, and then refuses
        known = ("127.0.0.1", server.socket.getsockname()[1], {"contexts": [build_context(CTImageStorage)]})
        yield known if status != 0xA801 else (None, None)
        yield 1
        yield status, None

    ae = AE(ae_title="ORTHANC")
    ae.add_supported_context(find)
    ae.add_supported_context(move)
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find), (evt.EVT_C_MOVE, on_move)])
    assert server is not None
    try:
        done = here(tmp_path, port=server.socket.getsockname()[1]).pull("--study", STUDY)
    finally:
        ae.shutdown()
    assert done.exit_code == ExitCode.FAILED
    assert words in " ".join(done.output.split())


def test_a_source_is_queried_for_the_number_of_instances_of_a_series(archive: Archive, tmp_path: Path) -> None:
    settings = here(tmp_path, port=archive.orthanc.dicom).settings
    assert settings.queried_sources == (), "no source is queried by default"
    settings = here(tmp_path, port=archive.orthanc.dicom, expected="query").settings
    count, [source] = query_over_network(settings.listener.ae_title), settings.queried_sources
    assert count(source, STUDY, f"{STUDY}.1") == SLICES
    assert count(source, STUDY, "1.2.3") is None
    with pytest.raises(RetryLater, match="cannot be reached"):
        count(source.model_copy(update={"port": free_port()}), STUDY, f"{STUDY}.1")
