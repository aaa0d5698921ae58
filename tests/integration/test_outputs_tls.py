"""DICOM over TLS: who trusts whom, and whose problem it is when they do not."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import config.section
from corewatch.errors import OperatorNeeded, RetryLater
from foundation.dicom_client.association import TlsFiles
from foundation.dicom_client.storage import StoreResult, echo, send_files
from tests.integration.test_outputs_storage import ADDRESS, ct_files
from tests.support.net import answers, free_port, wait_for
from tests.support.storage import Certificates, make_certificates, storage_scp


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("strangers"))


def test_both_sides_trust_each_other(ours: Certificates, tmp_path: Path) -> None:
    with storage_scp(context=ours.server_context()) as pacs:
        outcomes = send_files(ct_files(tmp_path), port=pacs.port, tls=ours.tls, **ADDRESS)
        assert {outcome.result for outcome in outcomes} == {StoreResult.ACCEPTED}
        echo(port=pacs.port, tls=ours.tls, **ADDRESS)


def test_a_stranger_gets_nothing_and_an_operator_must_look(ours: Certificates, strangers: Certificates, tmp_path: Path) -> None:
    with storage_scp(context=strangers.server_context(mutual=False)) as pacs:
        with pytest.raises(OperatorNeeded, match=r"not to be trusted \(self-signed cert.*\); .*tls\.authority"):
            send_files(ct_files(tmp_path), port=pacs.port, tls=ours.tls, **ADDRESS)
        assert pacs.count == 0


def test_a_certificate_that_names_another_host_is_refused_unless_the_settings_allow_it(ours: Certificates) -> None:
    """Another node of the site, with a certificate of the same authority, answers in its place."""
    context = ours.server_context()
    context.load_cert_chain(*map(str, make_nameless(ours)))
    with storage_scp(context=context) as pacs:
        section = config.section.TlsFiles(certificate=ours.client[0], key=ours.client[1], authority=ours.authority)
        with pytest.raises(OperatorNeeded, match=r"tls\.check_hostname"):
            echo(port=pacs.port, tls=section.for_client, **ADDRESS)
        echo(port=pacs.port, tls=section.model_copy(update={"check_hostname": False}).for_client, **ADDRESS)


def make_nameless(ours: Certificates) -> tuple[Path, Path]:
    """A certificate of the same authority for `elsewhere.example`."""
    folder = ours.authority.parent
    (folder / "elsewhere.names").write_text("subjectAltName=DNS:elsewhere.example\n")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "elsewhere.names"]
    command = ["openssl", "x509", "-req", "-in", "server.csr", "-out", "elsewhere.pem", *sign]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "elsewhere.pem", ours.server[1]


def test_an_expired_certificate_is_named(ours: Certificates, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=ours.authority.parent, check=True, capture_output=True)

    old = tmp_path / "old.pem"
    (tmp_path / "index").touch()
    (tmp_path / "ca.conf").write_text(
        f"[ca]\ndefault_ca=c\n[c]\nnew_certs_dir={tmp_path}\ndatabase={tmp_path}/index\nrand_serial=yes\npolicy=p\ndefault_md=sha256\n"
        "[p]\ncommonName=supplied\n"
    )
    dates = ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    authority = ("-cert", "ca.pem", "-keyfile", "ca.key")
    openssl("ca", "-batch", "-config", str(tmp_path / "ca.conf"), *authority, "-in", "server.csr", "-out", str(old), *dates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(old, ours.server[1])
    with storage_scp(context=context) as pacs, pytest.raises(OperatorNeeded, match="certificate has expired"):
        echo(port=pacs.port, tls=ours.tls, **ADDRESS)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_peer_that_refuses_our_certificate(ours: Certificates, strangers: Certificates, version: ssl.TLSVersion) -> None:
    """With TLS 1.2 within the handshake, with 1.3 after it."""
    context = ours.server_context()
    context.minimum_version = context.maximum_version = version
    unknown = TlsFiles(*strangers.client, authority=ours.authority)
    with (
        storage_scp(context=context) as pacs,
        pytest.raises(OperatorNeeded, match=r"refused our TLS certificate.*tls\.certificate"),
    ):
        echo(port=pacs.port, tls=unknown, **ADDRESS)


def test_a_port_without_tls(ours: Certificates) -> None:
    with storage_scp() as pacs, pytest.raises((OperatorNeeded, RetryLater), match="TLS"):
        echo(port=pacs.port, tls=ours.tls, **(ADDRESS | {"timeout_s": 2.0}))


def test_files_that_are_missing_are_for_the_operator(tmp_path: Path) -> None:
    absent = TlsFiles(tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "ca.pem")
    with pytest.raises(OperatorNeeded, match="TLS files"):
        echo(port=1, tls=absent, **ADDRESS)


def test_a_tls_receiver_of_dcmtk_takes_our_objects(tool: Callable[[str], str], ours: Certificates, tmp_path: Path) -> None:
    port, store = free_port(), tmp_path / "store"
    store.mkdir()
    tls = ("+tls", str(ours.server[1]), str(ours.server[0]), "+cf", str(ours.authority))
    command = [tool("storescp"), "-od", str(store), "-aet", "PACS", *tls, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("storescp", lambda: answers(port))
        paths = ct_files(tmp_path / "ct")
        outcomes = send_files(paths, port=port, tls=ours.tls, **ADDRESS)
    finally:
        process.terminate()
        process.wait(10)
    assert {outcome.result for outcome in outcomes} == {StoreResult.ACCEPTED}
    assert len(list(store.iterdir())) == len(paths)
