"""Weights over the network: an own authority, redirects, servers that stop, dawdle, lie or never end. Real servers on loopback."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

from corewatch.errors import ConfigurationError
from tests.support.certificates import Authority
from worker.models import install_model, verify_model
from worker.models.fetch import MAX_DOWNLOAD_S, described, fetch
from worker.models.manifest import sha256_of
from worker.models.registry import BUILTIN_DIR
from worker.models.weights import MAX_FILE_BYTES

WEIGHTS = BUILTIN_DIR / "phantom-demo" / "weights.h5"
CONTENT = WEIGHTS.read_bytes()
SECRET = "hunter2"


class _Handler(BaseHTTPRequestHandler):
    """`/weights.h5` is right; what the other paths do is in their names."""

    protocol_version = "HTTP/1.0"
    elsewhere = ""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        redirects = {
            "/to-weights": "/weights.h5",
            "/to-file": "file:///etc/hostname",
            "/to-ftp": "ftp://127.0.0.1/weights.h5",
            "/to-plain": f"{self.elsewhere}/weights.h5",
            "/to-secret": f"https://someone:{SECRET}@127.0.0.1/weights.h5",
            "/to-itself": "/to-itself",
        }
        if path in redirects:
            self._head(302, Location=redirects[path])
        elif path == "/weights.h5":
            self._head(200, Content_Length=len(CONTENT))
            self.wfile.write(CONTENT)
        elif path == "/without-length":
            self._head(200)
            self.wfile.write(CONTENT)
        elif path == "/stops":
            self._head(200, Content_Length=len(CONTENT))
            self.wfile.write(CONTENT[:1000])
        elif path == "/chunk-stops":
            self._head(200, Transfer_Encoding="chunked")
            self.wfile.write(b"10000\r\n" + CONTENT[:1000])
        elif path == "/announces-too-much":
            self._head(200, Content_Length=MAX_FILE_BYTES + 1)
        elif path == "/page":
            self._head(200, Content_Type="text/html")
            self.wfile.write(b"<html>Please log in.</html>")
        else:
            self.send_error(404, "secret words of the server")

    def _head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@dataclass(frozen=True)
class Servers:
    """The same server twice; `authority` has signed the certificate of the second."""

    plain: str
    tls: str
    authority: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    certificate, key = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    plain, tls = (ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2))
    tls.socket = context.wrap_socket(tls.socket, server_side=True)
    _Handler.elsewhere = f"http://127.0.0.1:{plain.server_port}"
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in (plain, tls)]
    for thread in threads:
        thread.start()
    yield Servers(_Handler.elsewhere, f"https://127.0.0.1:{tls.server_port}", authority.pem)
    for server, thread in zip((plain, tls), threads, strict=True):
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def trusting(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """As a site that has set SSL_CERT_FILE to its own authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(servers.authority))
    return servers


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.mark.parametrize("path", ["/weights.h5?token=abc", "/without-length", "/to-weights"])
def test_a_model_comes_over_https_from_a_server_of_an_own_authority(trusting: Servers, models_dir: Path, path: str) -> None:
    manifest = install_model(trusting.tls + path, models_dir, "mine", version="1")

    assert verify_model("mine", models_dir) == manifest
    assert manifest.sha256 == sha256_of(WEIGHTS)
    assert manifest.source == trusting.tls + path.split("?")[0], "without what may be a password"


def test_over_http_it_comes_with_its_digest_only(servers: Servers, models_dir: Path) -> None:
    address = f"{servers.plain}/to-weights"

    with pytest.raises(ConfigurationError, match="needs its SHA-256"):
        install_model(address, models_dir, "mine", version="1")
    assert install_model(address, models_dir, "mine", version="1", sha256=sha256_of(WEIGHTS)).source == address


def test_a_server_of_a_stranger_is_not_trusted(servers: Servers, models_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is not trusted: .*SSL_CERT_FILE"):
        install_model(f"{servers.tls}/weights.h5", models_dir, "mine", version="1")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/absent", "answers 404 Not Found$"),
        ("/stops", f"ended early, after 1000 of {len(CONTENT)} bytes; try again"),
        ("/chunk-stops", "ended early, after 1000 bytes; try again"),
        ("/announces-too-much", "larger than"),
        ("/page", "not HDF5"),
        ("/to-plain", "from https to an address that is not"),
        ("/to-ftp", "not over ftp"),
        ("/to-file", "redirects in a circle, or to what is no address"),
        ("/to-itself", "redirects in a circle, or to what is no address"),
        ("/to-secret", "user or password"),
    ],
)
def test_what_cannot_be_had_safely_and_whole_is_refused_in_one_line(
    trusting: Servers, models_dir: Path, path: str, message: str
) -> None:
    for sha256 in (None, "0" * 64):  # a download that ended early is not called another file
        with pytest.raises(ConfigurationError, match=message if path != "/page" or sha256 is None else "not the file") as caught:
            install_model(trusting.tls + path, models_dir, "mine", version="1", sha256=sha256)
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert list(models_dir.iterdir()) == []


def test_a_server_that_dawdles_is_given_up(servers: Servers, tmp_path: Path) -> None:
    ticks = count(step=2 * MAX_DOWNLOAD_S)  # late already with the first chunk, which may be all

    with pytest.raises(ConfigurationError, match=r"bytes in 900 s, which is too slow"):
        fetch(f"{servers.plain}/weights.h5", tmp_path / "x", sha256="0" * 64, clock=lambda: next(ticks))


def test_a_file_that_never_ends_is_left_at_the_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="larger than"):
        fetch("/dev/zero", tmp_path / "x", sha256=None)
    assert (tmp_path / "x").stat().st_size <= MAX_FILE_BYTES


def test_a_server_that_is_not_there_is_a_configuration_error(models_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        install_model("https://127.0.0.1:1/w.h5", models_dir, "mine", version="1")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"https://someone:{SECRET}@127.0.0.1/w.h5", "user or password"),
        (f"https://{SECRET}@127.0.0.1/w.h5", "user or password"),
        (f"https://127.0.0.1:{SECRET}/w.h5", "no valid address"),
        (f"https://[::1/{SECRET}", "no valid address"),
        ("https://127.0.0.1:99999/w.h5", "no valid address"),
        ("https:///w.h5", "no valid address"),
        (f"ftp://someone:{SECRET}@127.0.0.1/w.h5", "not over ftp"),
        ("file://host/etc/passwd", "not over file"),
    ],
)
@pytest.mark.parametrize("take", [described, lambda source: fetch(source, Path("/nowhere"), sha256=None)], ids=["said", "fetched"])
def test_addresses_that_no_model_comes_from_are_refused_and_not_repeated(
    take: Callable[[str], str], source: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        take(source)
    assert SECRET not in str(caught.value)
