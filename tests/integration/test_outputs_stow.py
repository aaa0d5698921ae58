"""STOW-RS: answers of every kind from a server that follows a script, and a real Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from config.delivery import DicomwebSettings
from corewatch.errors import OperatorNeeded, RetryLater
from foundation.dicom_client.storage import StoreResult
from outputs.destinations import DestinationContext, stow
from outputs.destinations.dicomweb import DicomwebDestination
from outputs.destinations.stow import check, store
from outputs.dicom.secondary_capture import Page
from tests.integration.test_outputs_storage import ct_files
from tests.support.dicomweb import dicomweb_server
from tests.support.net import free_port
from tests.support.orthanc import Orthanc, dicomweb_plugin
from tests.support.results import clock, make_case, write_pages
from tests.support.storage import make_certificates


def server(url: str, **changes: object) -> DicomwebSettings:
    return DicomwebSettings.model_validate({"name": "web", "url": url, "timeout_s": 5.0, **changes})


def test_files_arrive_byte_for_byte(tmp_path: Path) -> None:
    paths = ct_files(tmp_path)
    with dicomweb_server() as archive:
        outcomes = store(server(archive.url), paths)
    assert [o.result for o in outcomes] == [StoreResult.ACCEPTED] * 3
    assert [archive.received[o.sop_instance_uid] for o in outcomes] == [path.read_bytes() for path in paths]
    [(method, path, headers)] = archive.requests
    assert (method, path, headers["Accept"]) == ("POST", "/dicom-web/studies", "application/dicom+json")


def test_requests_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ct_files(tmp_path, 5)
    monkeypatch.setattr(stow, "MAX_REQUEST_BYTES", 2 * paths[0].stat().st_size + 10)
    with dicomweb_server() as archive:
        assert [o.path for o in store(server(archive.url), paths)] == paths
    assert len(archive.requests) == 3


def test_each_instance_has_its_own_outcome(tmp_path: Path) -> None:
    reasons = {1: 0x0000, 2: 0xB006, 3: 0xA700, 4: 0x0122, 5: 0x0111}
    with dicomweb_server(reasons.__getitem__) as archive:
        outcomes = store(server(archive.url), ct_files(tmp_path, 5))
    assert [(o.status, o.result, o.temporary) for o in outcomes] == [
        (0x0000, StoreResult.ACCEPTED, False),
        (0xB006, StoreResult.WARNING, False),
        (0xA700, StoreResult.FAILED, True),
        (0x0122, StoreResult.FAILED, False),
        (0x0111, StoreResult.ACCEPTED, False),
    ]


def test_an_instance_that_the_answer_does_not_name_is_not_taken_for_stored(tmp_path: Path) -> None:
    [path] = ct_files(tmp_path, 1)
    with dicomweb_server(body=b"{}") as archive:
        [outcome] = store(server(archive.url), [path])
    assert (outcome.result, outcome.status, outcome.temporary) == (StoreResult.FAILED, None, True)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (400, OperatorNeeded, "look at its log"),
        (401, OperatorNeeded, "correct user and password"),
        (403, OperatorNeeded, "the right to store"),
        (404, OperatorNeeded, "correct the URL"),
        (413, OperatorNeeded, "larger requests"),
        (415, OperatorNeeded, "multipart/related"),
        (301, OperatorNeeded, "set the URL to the address that it redirects to"),
        (429, RetryLater, "load"),
        (500, RetryLater, "disk and load"),
        (503, RetryLater, "disk and load"),
    ],
)
def test_refusals_are_sorted(code: int, error: type[Exception], words: str, tmp_path: Path) -> None:
    with dicomweb_server(http_status=code, headers={"Location": "https://elsewhere.example/"}) as archive:
        with pytest.raises(error, match=words):
            store(server(archive.url), ct_files(tmp_path, 1))
        with pytest.raises(error, match=words):
            check(server(archive.url))


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b'["what"]', b'{"00081199": {"vr": "SQ", "Value": [{}]}}'])
def test_an_answer_that_is_none_is_retried(body: bytes, tmp_path: Path) -> None:
    with dicomweb_server(body=body) as archive, pytest.raises(RetryLater, match="without a Store Instances Response"):
        store(server(archive.url), ct_files(tmp_path, 1))


def test_a_server_that_breaks_off_or_is_away_is_retried(tmp_path: Path) -> None:
    paths = ct_files(tmp_path, 1)
    with dicomweb_server(break_off=True) as archive, pytest.raises(RetryLater, match="broke off"):
        store(server(archive.url), paths)
    with pytest.raises(RetryLater, match="check host, port and firewall"):
        store(server(f"http://127.0.0.1:{free_port()}/dicom-web"), paths)


def test_user_and_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in the settings does not count: neither the environment's proxy nor its passwords."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    expected = "Basic " + base64.b64encode("jörg:geheim".encode()).decode()
    with dicomweb_server(password=expected) as archive:
        with pytest.raises(OperatorNeeded, match="correct user and password"):
            check(server(archive.url, user="jörg", password="falsch"))
        check(server(archive.url, user="jörg", password="geheim"))


def test_tls(tmp_path: Path) -> None:
    ours, strangers = make_certificates(tmp_path / "ours"), make_certificates(tmp_path / "strangers")
    with dicomweb_server(context=ours.server_context()) as archive:
        url = archive.url.replace("http:", "https:")
        certificate, key = ours.client
        check(server(url, authority=ours.authority, certificate=certificate, key=key))
        with pytest.raises(OperatorNeeded, match="certificate verify failed"):
            check(server(url, authority=strangers.authority, certificate=certificate, key=key))
        with pytest.raises((OperatorNeeded, RetryLater), match=r"certificate|broke off"):
            check(server(url, authority=ours.authority))
        with pytest.raises(OperatorNeeded, match="there is no file"):
            check(server(url, authority=tmp_path / "nothing.pem"))


@pytest.fixture(scope="module")
def orthanc(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc with its DICOMweb plugin."""
    running = Orthanc(tool("Orthanc"), tmp_path_factory.mktemp("dicomweb"), plugins=(dicomweb_plugin(),))
    yield running
    running.stop()


def test_orthanc_keeps_our_objects_once(orthanc: Orthanc, tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    paths = write_pages(case, [Page(np.full((32, 32, 3), n, np.uint8), f"overlay-{n}") for n in range(4)])
    to = DicomwebDestination(server(f"http://127.0.0.1:{orthanc.http}/dicom-web/"), DestinationContext(clock=clock))
    to.check()
    for _ in range(3):
        assert to.deliver(case).detail.startswith("4 objects stored by http://127.0.0.1")
    found = orthanc.find("Instance")
    assert sorted(i["MainDicomTags"]["SOPInstanceUID"] for i in found) == sorted(dcmread(p).SOPInstanceUID for p in paths)


def test_orthanc_refuses_what_is_damaged(orthanc: Orthanc, tmp_path: Path) -> None:
    good, bad = ct_files(tmp_path, 2)
    bad.write_bytes(bad.read_bytes()[:400])
    with pytest.raises(OperatorNeeded, match="400 Bad Request; look at its log"):
        store(server(f"http://127.0.0.1:{orthanc.http}/dicom-web"), [good, bad])


def test_orthanc_at_another_address(orthanc: Orthanc) -> None:
    with pytest.raises(OperatorNeeded, match="correct the URL"):
        check(server(f"http://127.0.0.1:{orthanc.http}/not-there"))
