"""Doctor proves what it says of destinations, of the broker and of what it cannot see."""

from __future__ import annotations

import base64
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from cli.checks import Check, Level
from cli.checks.peers import destinations
from cli.checks.services import broker
from cli.checks.system import surroundings
from config.settings import Settings
from jobs.broker_url import redis_client
from jobs.embedded import EmbeddedRedis
from tests.support.smtp import smtp_server
from tests.support.storage import storage_scp


class TestWhatWillBeSent:
    """`answers` is said only of what takes what will be sent."""

    def check_of(self, settings: Settings, subject: str) -> Check:
        [found] = [check for check in destinations(settings) if check.subject == subject]
        return found

    def pacs(self, folder: Path, port: int, **more: object) -> Settings:
        section = {"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout_s": 5, **more}
        return Settings.model_validate({"data_dir": folder / "data", "deliver": {"pacs": [section], "folder": None}})

    def test_a_pacs_that_answers_and_takes_no_segmentation_is_an_error(self, tmp_path: Path) -> None:
        with storage_scp(classes=(SecondaryCaptureImageStorage, Comprehensive3DSRStorage)) as pacs:
            found = self.check_of(self.pacs(tmp_path, pacs.port), "to main")
            assert found.level is Level.ERROR
            assert "does not take Segmentation Storage (seg)" in found.found
            assert "remove their kinds from objects" in found.remedy
            assert self.check_of(self.pacs(tmp_path, pacs.port, objects=["sc", "sr"]), "to main").level is Level.OK
            assert pacs.count == 0

    def mail(self, folder: Path, port: int, **more: object) -> Settings:
        email = {"host": "127.0.0.1", "port": port, "security": "none", "from": "a@b.example", "to": ["team@b.example"], **more}
        return Settings.model_validate({"data_dir": folder / "data", "deliver": {"email": email, "folder": None}})

    def test_the_test_of_the_mail_server_goes_as_far_as_the_recipients(self, tmp_path: Path) -> None:
        with smtp_server() as mailbox:
            assert self.check_of(self.mail(tmp_path, mailbox.port), "to email").level is Level.OK
            mailbox.refuse = {"op@b.example": "550 no such user"}
            found = self.check_of(self.mail(tmp_path, mailbox.port, operators=["op@b.example"]), "to email")
            assert (found.level, mailbox.mails) == (Level.ERROR, [])
            assert "op@b.example: 550" in found.found

    @pytest.mark.parametrize(
        ("mechanisms", "password", "words"),
        [("XOAUTH2 OAUTHBEARER", "secret", "OAuth"), ("LOGIN", "gehe\N{LATIN SMALL LETTER I WITH DIAERESIS}m", "ASCII")],
    )
    def test_a_login_that_cannot_work_is_named(self, tmp_path: Path, mechanisms: str, password: str, words: str) -> None:
        with scripted_smtp(mechanisms) as (port, _heard):
            found = self.check_of(self.mail(tmp_path, port, user="corewatch", password=password), "to email")
        assert found.level is Level.ERROR
        assert words in found.found
        assert password not in found.found

    def test_a_password_outside_of_ascii_works_by_plain(self, tmp_path: Path) -> None:
        with scripted_smtp("PLAIN LOGIN") as (port, heard):
            found = self.check_of(self.mail(tmp_path, port, user="corewatch", password="geheïm"), "to email")
        assert found.level is Level.OK
        [login] = [line for line in heard if line.startswith("AUTH")]
        assert base64.b64decode(login.split()[2]).decode() == "\0corewatch\0geheïm"

    def test_a_destination_whose_check_breaks_hides_no_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_self: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("outputs.destinations.pacs.PacsDestination.check", broken)
        with smtp_server() as mailbox:
            settings = self.mail(tmp_path, mailbox.port)
            pacs = self.pacs(tmp_path, 1).deliver.pacs
            settings = settings.model_copy(update={"deliver": settings.deliver.model_copy(update={"pacs": pacs})})
            levels = {check.subject: check.level for check in destinations(settings)}
        assert levels == {"to main": Level.ERROR, "to email": Level.OK}


@contextmanager
def scripted_smtp(mechanisms: str) -> Iterator[tuple[int, list[str]]]:
    """A mail server that offers these mechanisms of login and accepts everything; its port, and the lines that it received."""
    heard: list[str] = []

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            for line in self.rfile:
                heard.append(line.decode().strip())
                word = line[:4].upper()
                answer = f"250-test\r\n250 AUTH {mechanisms}" if word == b"EHLO" else "235 ok" if word == b"AUTH" else "250 ok"
                self.wfile.write(f"{'221 bye' if word == b'QUIT' else answer}\r\n".encode())

    with socketserver.TCPServer(("127.0.0.1", 0), Conversation) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], heard
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("place", ["container", "unit", "host"])
def test_doctor_says_what_it_cannot_see(tmp_path: Path, place: str) -> None:
    if place == "container":
        (tmp_path / ".dockerenv").touch()
    found = surroundings({"INVOCATION_ID": "1"} if place == "unit" else {}, tmp_path)
    assert [check.level for check in found] == ([] if place == "host" else [Level.OK])
    assert all("not seen" in check.found for check in found)


def test_a_redis_that_is_read_only_or_full_is_an_error(tmp_path: Path) -> None:
    """Takes about 2 s: a server is started, made a replica, and then full."""
    redis = EmbeddedRedis(tmp_path / "redis")
    settings = Settings.model_validate({"data_dir": tmp_path / "data", "broker": {"url": redis.start()}})
    try:
        assert {check.level for check in broker(settings)} == {Level.OK}
        with redis_client(redis.url, 5.0) as client:
            client.config_set("maxmemory", "1")
            [full] = broker(settings)
            client.config_set("maxmemory", "0")
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            [replica] = broker(settings)
    finally:
        redis.stop()
    assert (full.level, replica.level) == (Level.ERROR, Level.ERROR)
    assert "full" in full.found
    assert "read-only" in replica.found
