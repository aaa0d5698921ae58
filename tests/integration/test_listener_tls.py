"""Who gets in through TLS: DCMTK's tools and openssl's against the listener (PS3.15 B.12)."""

from __future__ import annotations

import socket
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dicom_listener.server
import dicom_listener.tls
from config.settings import Settings
from corewatch.errors import ConfigurationError
from dicom_listener.server import StorageListener
from dicom_listener.tls import ServerTls, server_context
from tests.support import wire
from tests.support.certificates import DAY, Authority
from tests.support.listener import (
    arrivals,
    associate,
    captured_logs,
    closing,
    ct_slice,
    file_bytes,
    images,
    listener_settings,
    running,
    send,
)
from tests.support.listener_program import program
from tests.support.net import free_port, wait_for

Pair = tuple[Path, Path]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def client(authority: Authority) -> Pair:
    return authority.issue("client")


@contextmanager
def secured(tmp_path: Path, authority: Authority) -> Iterator[tuple[Settings, StorageListener]]:
    settings = listener_settings(tmp_path, tls=authority.files("server"), idle_timeout_s=5)
    with running(settings) as listener:
        yield settings, listener


def trusting(authority: Authority, client: Pair | None = None) -> ssl.SSLContext:
    """The context of a sender."""
    context = ssl.create_default_context(cafile=str(authority.pem))
    if client is not None:
        context.load_cert_chain(*map(str, client))
    return context


def gets_in(port: int, context: ssl.SSLContext | None) -> bool:
    """Whether an association is established and an instance is stored."""
    association = associate(port, tls_args=None if context is None else (context, "localhost"))
    if not association.is_established:
        return False
    taken = send(association, 1) == [0]
    association.release()
    return taken


def shown(context: ssl.SSLContext, port: int) -> str:
    """The common name that the listener shows."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context.wrap_socket(plain, server_hostname="localhost") as sock:
        found = sock.getpeercert()
        assert found
        return str(dict(pair for part in found["subject"] for pair in part)["commonName"])


def test_which_clients_are_accepted(tmp_path: Path, authority: Authority, client: Pair) -> None:
    stranger = Authority(tmp_path / "other", "stranger")
    with secured(tmp_path, authority) as (settings, listener), captured_logs(dicom_listener.server) as logs:
        # a client that connects and says nothing must not keep others out
        with socket.create_connection(("127.0.0.1", listener.port)):
            assert gets_in(listener.port, trusting(authority, client))
        assert not gets_in(listener.port, trusting(authority)), "without a certificate"
        assert not gets_in(listener.port, trusting(authority, stranger.issue("client"))), "of another authority"
        assert not gets_in(listener.port, trusting(authority, authority.issue("late", valid_for=-DAY))), "expired"
        assert not gets_in(listener.port, None), "without TLS"
        old = trusting(authority, client)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        assert not gets_in(listener.port, old), "TLS 1.1"
        weak = trusting(authority, client)
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA")
        assert not gets_in(listener.port, weak), "without forward secrecy or authenticated encryption"
        assert gets_in(listener.port, trusting(authority, client))
        wait_for("all to be over", lambda: listener.open_associations == 0)
        assert [closing(f)["stored"] for f in arrivals(settings)] == [1, 1]
    reasons = {e["reason"] for e in logs if e["event"] == "connection_refused"}
    assert reasons >= {"TLS: peer did not return a certificate", "TLS: certificate verify failed", "TLS: unsupported protocol"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("use_rsa", [True, False])
def test_versions_and_kinds_of_keys(tmp_path: Path, authority: Authority, version: ssl.TLSVersion, use_rsa: bool) -> None:
    with secured(tmp_path, authority) as (_, listener):
        context = trusting(authority, authority.issue("client", use_rsa=use_rsa))
        context.minimum_version = context.maximum_version = version
        assert gets_in(listener.port, context)


def test_a_long_instance_is_stored(tmp_path: Path, authority: Authority, client: Pair) -> None:
    with secured(tmp_path, authority) as (settings, listener):
        association = associate(listener.port, tls_args=(trusting(authority, client), "localhost"))
        assert association.send_c_store(ct_slice(1, size=1024)).Status == 0
        association.release()
        (folder,) = arrivals(settings)
        closing(folder)
        assert images(folder)[0].read_bytes().endswith(ct_slice(1, size=1024).PixelData)


def test_renewed_certificates_are_used_without_a_restart(tmp_path: Path, authority: Authority, client: Pair) -> None:
    with secured(tmp_path, authority) as (settings, listener), captured_logs(dicom_listener.tls) as logs:
        tls = settings.listener.tls
        assert tls is not None
        context = trusting(authority, client)

        def renewals() -> list[str]:
            return [e["event"] for e in logs if e["event"].startswith("certificates")]

        assert shown(context, listener.port) == "server"
        open_one = associate(listener.port, tls_args=(context, "localhost"))
        certificate, key = authority.issue("renewed")
        # the certificate alone does not fit the old key: the earlier pair stays
        certificate.replace(tls.certificate)
        assert [shown(context, listener.port) for _ in range(3)] == ["server"] * 3
        assert renewals() == ["certificates_not_renewed"]
        key.replace(tls.key)
        assert shown(context, listener.port) == "renewed"
        assert send(open_one, 1) == [0], "an open association continues"
        open_one.release()
        tls.authority.write_text("rubbish")
        assert shown(context, listener.port) == "renewed"
        another = Authority(tmp_path / "another", "another")
        tls.authority.write_bytes(another.pem.read_bytes())
        assert not gets_in(listener.port, context), "its authority is no longer ours"
        assert gets_in(listener.port, trusting(authority, another.issue("client")))
        assert renewals() == [
            "certificates_not_renewed",
            "certificates_renewed",
            "certificates_not_renewed",
            "certificates_renewed",
        ]


def test_missing_files_leave_the_context_in_use(authority: Authority) -> None:
    files = authority.files("server")
    tls = ServerTls(files)
    first = tls.current()
    files.key.unlink()
    assert tls.current() is first
    with pytest.raises(ConfigurationError, match=r"listener\.tls"):
        server_context(files)


@pytest.mark.servers
class TestPrograms:
    """Two processes on the port, as many hospitals will run it."""

    @pytest.fixture
    def port(self, tmp_path: Path, authority: Authority) -> Iterator[int]:
        settings = listener_settings(tmp_path, port=free_port(), processes=2, tls=authority.files("server"))
        with program(settings):
            yield settings.listener.port

    def test_dcmtk(self, tool: Callable[[str], str], tmp_path: Path, authority: Authority, client: Pair, port: int) -> None:
        image = tmp_path / "1.dcm"
        image.write_bytes(file_bytes(ct_slice(1, size=64)))
        stranger = Authority(tmp_path / "other", "stranger").issue("client")
        late = authority.issue("late", valid_for=-DAY)

        def storescu(*options: str, trust: Path = authority.pem) -> bool:
            trusts = ["+cf", str(trust)] if options else []
            command = [
                tool("storescu"),
                *options,
                *trusts,
                "-to",
                "10",
                "-ta",
                "10",
                "-aec",
                "COREWATCH",
                "localhost",
                str(port),
                str(image),
            ]
            return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

        def pair(files: Pair) -> list[str]:
            return ["+tls", str(files[1]), str(files[0])]

        for profile in ("+py", "+px"):
            assert storescu(*pair(client), profile), profile
        assert not storescu(*pair(stranger)), "of another authority"
        assert not storescu(*pair(late)), "expired"
        assert not storescu("+tla"), "without a certificate"
        assert not storescu(), "without TLS"
        assert storescu(*pair(client)), "the port serves afterwards"
        echo = [tool("echoscu"), *pair(client), "+cf", str(authority.pem), "-aec", "COREWATCH", "localhost", str(port)]
        assert subprocess.run(echo, check=False, timeout=60).returncode == 0
        assert len(list(tmp_path.rglob("received/*/*-*.dcm"))) == 3

    def test_openssl(self, tool: Callable[[str], str], tmp_path: Path, authority: Authority, client: Pair, port: int) -> None:
        request = wire.associate_rq()

        def s_client(*options: str, files: Pair | None = client) -> bytes:
            """What the listener answers to an A-ASSOCIATE-RQ."""
            mine = [] if files is None else ["-cert", str(files[0]), "-key", str(files[1])]
            command = [
                tool("openssl"),
                "s_client",
                "-quiet",
                "-connect",
                f"localhost:{port}",
                "-CAfile",
                str(authority.pem),
                *mine,
                *options,
            ]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(request)
                process.stdin.flush()
                return process.stdout.read(6)
            except BrokenPipeError:
                return b""
            finally:
                process.kill()
                process.communicate()

        assert s_client("-tls1_3")[:1] == bytes([wire.ASSOCIATE_AC])
        assert s_client("-tls1_2")[:1] == bytes([wire.ASSOCIATE_AC])
        assert s_client("-tls1_1", "-cipher", "ALL:@SECLEVEL=0") == b""
        assert s_client("-tls1_2", "-cipher", "AES128-GCM-SHA256") == b""
        assert s_client(files=None) == b""
        assert s_client(files=authority.issue("late", valid_for=-DAY)) == b""
        assert s_client()[:1] == bytes([wire.ASSOCIATE_AC])
