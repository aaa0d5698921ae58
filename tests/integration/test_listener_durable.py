"""What the listener asks of the kernel before it says that an image is stored, and other programs as senders."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.support.listener import arrivals, associate, closing, ct_slice, file_bytes, images, listener_settings, send
from tests.support.listener_program import program
from tests.support.net import free_port, wait_for
from tests.support.orthanc import Orthanc

CALLS = "fsync,fdatasync,rename,renameat,renameat2,unlink,sendto,write"
SYNC = re.compile(r"f(?:data)?sync\(\d+<(?P<path>[^>]*)>\) += 0")
RENAME = re.compile(r"rename\w*\(.*?\"(?P<old>[^\"]*)\".*?\"(?P<new>[^\"]*)\".*\) += 0")
ANSWER = re.compile(r"sendto\(\d+<[^>]*>, \"\\4\\0")

pytestmark = pytest.mark.servers


def steps(trace: str) -> list[str]:
    """What matters of a trace, in order: data written, file synced, renamed, folder synced, answered."""
    found: list[str] = []
    for line in trace.splitlines():
        if match := SYNC.search(line):
            path = match["path"]
            found.append("file synced" if path.endswith(".dcm.partial") else "json synced" if "json" in path else "folder synced")
        elif match := RENAME.search(line):
            if match["new"].endswith(".dcm"):
                assert match["old"].endswith(".dcm.partial")
                found.append("renamed")
        elif ANSWER.search(line):
            found.append("answered")
        elif re.search(r"write\(\d+<[^>]*\.dcm\.partial>", line) and found[-1:] != ["written"]:
            found.append("written")
    return found


def test_success_follows_the_sync_of_file_and_folder(tool: Callable[[str], str], tmp_path: Path) -> None:
    settings = listener_settings(tmp_path, port=free_port())
    trace = tmp_path / "trace"
    with program(settings) as process:
        # -y: descriptors with their paths
        command = [tool("strace"), "-f", "-y", "-s", "8", "-e", f"trace={CALLS}", "-o", str(trace), "-p", str(process.pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        if "ttached" not in tracer.stderr.readline():
            tracer.wait(10)
            pytest.skip("no process may be traced here; the order is tested with a recording disk too")
        association = associate(settings.listener.port)
        assert send(association, 1, 2, 3) == [0, 0, 0]
        association.release()
        closing(arrivals(settings)[0])
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)
    whole = steps(trace.read_text(errors="replace"))
    first = whole.index("written")
    one = ["written", "file synced", "renamed", "folder synced", "answered"]
    assert whole[first : first + 15] == one * 3
    assert "json synced" in whole[:first], "who sends is on the disk before the first image is"


def test_orthanc_sends(tool: Callable[[str], str], tmp_path: Path) -> None:
    settings = listener_settings(tmp_path, port=free_port())
    sources = [ct_slice(n, size=128) for n in range(1, 31)]
    for number, source in enumerate(sources):
        (tmp_path / f"{number}.dcm").write_bytes(file_bytes(source))
    modality = {"corewatch": ["COREWATCH", "127.0.0.1", settings.listener.port]}
    orthanc = Orthanc(tool("Orthanc"), tmp_path / "orthanc", DicomModalities=modality)
    try:
        for number in range(len(sources)):
            orthanc.upload(tmp_path / f"{number}.dcm")
        with program(settings):
            orthanc.ask("POST", "/modalities/corewatch/echo", {})
            stored = orthanc.ask("POST", "/modalities/corewatch/store", orthanc.get("/instances"))
            assert (stored["FailedInstancesCount"], stored["InstancesCount"]) == (0, 30)
            wait_for("the arrival", lambda: sum(len(images(f)) for f in arrivals(settings)) == 30)
        found = {d.InstanceNumber: d for folder in arrivals(settings) for d in map(dcmread, images(folder))}
    finally:
        orthanc.stop()
    assert sorted(found) == list(range(1, 31))
    assert all(found[s.InstanceNumber].PixelData == s.PixelData for s in sources)
