"""A real Orthanc as the PACS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.net import answers, free_port, wait_for


class Orthanc:
    """Debian's Orthanc on free ports, with an empty store; ask it through its REST interface."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.http, self.dicom = free_port(), free_port()
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
            "Plugins": [],
        }
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
