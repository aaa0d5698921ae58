"""A real Orthanc as the PACS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.conftest import REQUIRE_SERVERS
from tests.support.net import answers, free_port, wait_for

PLUGINS = [Path(folder) for folder in ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")]


def dicomweb_plugin() -> str:
    """Path of the DICOMweb plugin; where it is missing the test skips, or fails when servers are required."""
    found = next((p for folder in PLUGINS for p in folder.glob("libOrthancDicomWeb.so*")), None)
    if found is None:
        message = "orthanc-dicomweb is not installed; see scripts/install-test-tools.sh"
        pytest.fail(message) if REQUIRE_SERVERS else pytest.skip(message)
    return str(found)


class Orthanc:
    """Debian's Orthanc on free ports, with an empty store; ask it through its REST interface."""

    def __init__(self, binary: str, folder: Path, *, plugins: tuple[str, ...] = (), **others: Any) -> None:
        self.http, self.dicom = free_port(), int(others.get("DicomPort", 0)) or free_port()
        self.ae_title = "ORTHANC"
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": self.ae_title,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "AuthenticationEnabled": False,
            "RemoteAccessAllowed": False,
            "OverwriteInstances": True,
            "Plugins": list(plugins),
        } | others
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "orthanc.json"
        file.write_text(json.dumps(settings))
        self._log = (folder / "orthanc.log").open("wb")
        self._process = subprocess.Popen([binary, str(file)], stdout=self._log, stderr=subprocess.STDOUT)
        wait_for("Orthanc", lambda: answers(self.http) and answers(self.dicom), 30)

    def get(self, path: str) -> Any:
        """GET a resource as JSON."""
        with urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Any other request, with JSON both ways."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with urlopen(
            Request(f"http://127.0.0.1:{self.http}{path}", data=data, method=method, headers=headers), timeout=20
        ) as answer:
            content = answer.read()
            return json.loads(content) if content else None

    def upload(self, path: Path) -> None:
        """Put a DICOM file into its store."""
        request = Request(f"http://127.0.0.1:{self.http}/instances", data=path.read_bytes(), method="POST")
        with urlopen(request, timeout=20):
            pass

    def picture(self, instance: str) -> bytes:
        """Orthanc's own rendering of an instance as PNG."""
        with urlopen(f"http://127.0.0.1:{self.http}/instances/{instance}/preview", timeout=20) as answer:
            body: bytes = answer.read()
            return body

    def find(self, level: str, **query: str) -> list[Any]:
        """Resources that match, expanded."""
        body = json.dumps({"Level": level, "Query": query, "Expand": True}).encode()
        request = Request(f"http://127.0.0.1:{self.http}/tools/find", data=body, headers={"Content-Type": "application/json"})
        with urlopen(request, timeout=20) as answer:
            found: list[Any] = json.loads(answer.read())
            return found

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
