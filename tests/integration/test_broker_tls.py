"""`rediss://`: the programs verify the server's certificate and its name, unless the settings say otherwise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.app import make_app
from jobs.broker_url import redis_client, with_verified_tls
from jobs.redis_binary import available
from tests.conftest import REQUIRE_SERVERS
from tests.support.certificates import Authority
from tests.support.net import answers, free_port, wait_for


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def port(authority: Authority, tmp_path: Path) -> Iterator[int]:
    """Port of a Redis that speaks TLS only, with a certificate for localhost and 127.0.0.1."""
    binary = next((one.path for one in available() if one.is_systems), None)
    if binary is None:
        (pytest.fail if REQUIRE_SERVERS else pytest.skip)("the system has no redis-server")
    certificate, key = authority.issue("server")
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    command = [str(binary), "--port", "0", "--bind", "127.0.0.1", "127.0.0.2", *tls]
    server = subprocess.Popen(
        [*command, "--tls-ca-cert-file", str(authority.pem), "--tls-auth-clients", "no", "--save", ""],
        cwd=tmp_path, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for("Redis", lambda: answers(port), 20)
        yield port
    finally:
        server.terminate()
        server.wait()


def connects(url: str) -> bool:
    """Whether the programs' library and the check of `doctor` reach the server; they must agree."""
    with make_app(url) as app, app.connection_for_write() as connection:
        try:
            by_program = bool(connection.default_channel.client.ping())
        except Exception as error:
            assert "certificate" in str(error).lower()
            by_program = False
    try:
        with redis_client(url, 5.0) as client:
            by_doctor = bool(client.ping())
    except Exception:
        by_doctor = False
    assert by_program == by_doctor
    return by_program


def test_the_certificate_and_its_name_are_verified(port: int, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    url = f"rediss://127.0.0.1:{port}/0"
    assert connects(with_verified_tls(url, authority.pem))
    assert not connects(with_verified_tls(url, stranger.pem))
    assert not connects(with_verified_tls(url, None))  # not one of the system's authorities
    assert not connects(with_verified_tls(f"rediss://127.0.0.2:{port}/0", authority.pem))  # another name
    assert connects(with_verified_tls(f"rediss://127.0.0.2:{port}/0?ssl_check_hostname=false", authority.pem))
    assert connects(with_verified_tls(f"{url}?ssl_cert_reqs=none", None))
