"""The audit trail passed on to a real rsyslog over TLS: framing (RFC 5425) and the close_notify that confirms a batch."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.audit import SyslogSettings
from config.settings import Settings
from daemon.upkeep.audit_forwarding import AuditForwarder, send_syslog
from ledger.store import Ledger
from tests.conftest import REQUIRE_SERVERS
from tests.support.ledger import Clock, delivering
from tests.support.net import free_port, wait_for
from tests.support.storage import Certificates, make_certificates

CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{authority}"
    defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
template(name="kept" type="string" string="%pri%|%app-name%|%msgid%|%structured-data%|%msg%\\n")
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="keep")
ruleset(name="keep") {{ action(type="omfile" file="{folder}/kept" template="kept") }}
"""


@dataclass
class Rsyslog:
    port: int
    folder: Path
    certificates: Certificates

    @property
    def to(self) -> SyslogSettings:
        certificate, key = self.certificates.client
        return SyslogSettings(
            host="localhost", port=self.port, authority=self.certificates.authority, certificate=certificate, key=key, timeout_s=10
        )

    def kept(self) -> list[str]:
        """What it has written, a message a line."""
        path = self.folder / "kept"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def lines(self) -> list[int]:
        return [int(match[1]) for one in self.kept() if (match := re.search(r'line="(\d+)"', one))]


@pytest.fixture
def rsyslog(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[Rsyslog]:
    binary = tool("rsyslogd")
    if not list(Path("/usr/lib").glob("**/rsyslog/lmnsd_ossl.so")):
        message = "rsyslog-openssl is not installed; see scripts/install-test-tools.sh"
        pytest.fail(message) if REQUIRE_SERVERS else pytest.skip(message)
    folder, port = tmp_path / "rsyslog", free_port()
    folder.mkdir()
    certificates = make_certificates(folder / "pki")
    certificate, key = certificates.server
    text = CONFIGURATION.format(folder=folder, authority=certificates.authority, certificate=certificate, key=key, port=port)
    (folder / "conf").write_text(text)

    def listening() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    with (folder / "log").open("wb") as log:
        command = [binary, "-n", "-f", str(folder / "conf"), "-i", str(folder / "pid")]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for("rsyslog", listening)
            yield Rsyslog(port, folder, certificates)
        finally:
            process.terminate()
            process.wait(20)


def test_the_trail_arrives_once_and_in_order(tmp_path: Path, rsyslog: Rsyslog) -> None:
    clock, settings = Clock(), Settings(data_dir=tmp_path / "data")
    ledger = Ledger(settings.database_url, clock)
    forwarder = AuditForwarder(ledger, settings, rsyslog.to)
    forwarder.step(clock())
    delivering(ledger, folder=None)
    ledger.note("program.stopped", program="watch")
    sent = forwarder.step(clock())
    assert sent >= 2
    assert forwarder.step(clock()) == 0
    ledger.close()
    wait_for("the messages", lambda: len(rsyslog.kept()) >= sent)
    assert len(rsyslog.lines()) == sent
    assert rsyslog.lines() == sorted(set(rsyslog.lines()))
    for one in rsyslog.kept():
        assert one.startswith("85|corewatch|DICOM+RFC3881|[corewatch@32473 line=")
        assert one.endswith("</AuditMessage>")


def test_it_answers_close_notify_after_many_messages(rsyslog: Rsyslog) -> None:
    bodies = [f'<85>1 - h corewatch 1 DICOM+RFC3881 [corewatch@32473 line="{k}"] ' + "x" * 3000 for k in range(300)]
    send_syslog(rsyslog.to, [f"{len(body)} {body}".encode() for body in bodies])
    wait_for("the messages", lambda: len(rsyslog.kept()) >= 300)
    assert rsyslog.lines() == list(range(300))
