"""Storage SCP throughput: a CTA head by C-STORE to corewatch, a pynetdicom listener, DCMTK's storescp and Orthanc.

    python -m benchmarks.ingest --slices 400 --repeats 3

Makes a synthetic series (512 x 512, 527 KB an image) and sends it with DCMTK's dcmsend, over one association and over four at once
(a quarter of the series each), to corewatch's listener, to a listener made with pynetdicom, and to DCMTK's storescp and Orthanc if
they are on PATH. The servers take turns, so that a busy machine affects all alike. `nagle` is dcmsend with its defaults, `nodelay`
dcmsend with Nagle's algorithm switched off (environment TCP_NODELAY=1, since DCMTK 3.6.1) and PDUs of 128 KB. storescp and Orthanc
always run with it. At the end each server gets associations with one C-ECHO (echoscu), and their processor time is printed.

corewatch and the pynetdicom listener answer success only after the instance is fsynced under its final name. storescp and Orthanc
(with their defaults) leave it in the page cache, so their comparison is unfair to corewatch, on purpose.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIZE = 512
LISTENER = """
import sys
from config.settings import Settings
from dicom_listener.program import serve
serve(Settings.model_validate_json(sys.argv[1]))
"""
PYNETDICOM = """
import os, socket, sys, tempfile
from pathlib import Path
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, evt
from pynetdicom.sop_class import Verification

port, folder = int(sys.argv[1]), Path(sys.argv[2])
(folder / "partial").mkdir(parents=True)
tempfile.tempdir = str(folder / "partial")  # so that a finished file can be renamed
_config.STORE_RECV_CHUNKED_DATASET = True

def no_delay(event):
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

def store(event):
    descriptor = os.open(event.dataset_path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(event.dataset_path, folder / (event.request.AffectedSOPInstanceUID + ".dcm"))
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return 0x0000

entity = AE("COREWATCH")
entity.maximum_pdu_size = 262144
for context in AllStoragePresentationContexts:
    entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
entity.add_supported_context(Verification)
handlers = [(evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, no_delay)]
entity.start_server(("127.0.0.1", port), block=True, evt_handlers=handlers)
"""
ECHOES = 100
"""Associations with one C-ECHO each, for the processor time of an association."""
SENDERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "nagle": ([], {}),
    "nodelay": (["--max-send-pdu", "131072"], {"TCP_NODELAY": "1"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="processes of the second corewatch listener")
    parser.add_argument("--senders", nargs="+", choices=SENDERS, default=list(SENDERS))
    parser.add_argument("--folder", type=Path, help="where to make the series (default: a temporary folder)")
    options = parser.parse_args()
    if shutil.which("dcmsend") is None:
        sys.exit("dcmsend (DCMTK) is not on PATH")
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        files = make_series(folder / "series", options.slices)
        size = sum(f.stat().st_size for f in files)
        print(f"{len(files)} images, {size / 2**20:.0f} MiB, {os.cpu_count()} cores")
        servers: dict[str, Server] = {"corewatch": stack.enter_context(listener(folder / "corewatch", 1))}
        if options.processes > 1:
            servers[f"corewatch x{options.processes}"] = stack.enter_context(listener(folder / "corewatch-n", options.processes))
        servers["pynetdicom"] = stack.enter_context(pynetdicom(folder / "pynetdicom"))
        for title, binary, start in (("storescp", "storescp", storescp), ("Orthanc", "Orthanc", orthanc)):
            if found := shutil.which(binary):
                servers[title] = stack.enter_context(start(folder / title, found))
        for associations in (1, 4):
            for sender in options.senders:
                compare(servers, files, associations, sender, options.repeats)
        if shutil.which("echoscu") is not None:
            print(f"\n{ECHOES} associations with a C-ECHO")
            for name, server in servers.items():
                print(f"  {name:14} {1000 * echo(server) / ECHOES:5.2f} ms of processor time an association")


def compare(servers: dict[str, Server], files: list[Path], associations: int, sender: str, repeats: int) -> None:
    """Send to every server in turns and print medians, and how long the others take compared with corewatch."""
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    processor: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(repeats):
        for name, server in servers.items():
            before = server.processor_s()
            seconds[name].append(send(server.port, files, associations, sender))
            processor[name].append(server.processor_s() - before)
    print(f"\n{associations} association{'s' if associations > 1 else ''}, {sender}")
    own = statistics.median(seconds["corewatch"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(
            f"  {name:14} {middle:7.2f} s  ({spread})  {len(files) / middle:5.0f} images/s   x{middle / own:.2f}   "
            f"{1000 * statistics.median(processor[name]) / len(files):5.2f} ms of processor time an image"
        )


def send(port: int, files: list[Path], associations: int, sender: str) -> float:
    """Seconds until every image was answered with success."""
    options, environment = SENDERS[sender]
    command = ["dcmsend", "--quiet", *options, "-aec", "COREWATCH", "127.0.0.1", str(port)]
    parts = [files[k::associations] for k in range(associations)]
    os.sync()  # what the server before left in the page cache would else be written during our fsyncs
    start = time.perf_counter()
    running = [subprocess.Popen([*command, *map(str, part)], env={**os.environ, **environment}) for part in parts]
    failed = [process.wait() for process in running]
    seconds = time.perf_counter() - start
    if any(failed):
        sys.exit(f"dcmsend failed: {failed}")
    return seconds


def echo(server: Server) -> float:
    """Processor seconds of a server for `ECHOES` associations, one after the other."""
    before = server.processor_s()
    for _ in range(ECHOES):
        subprocess.run(["echoscu", "--quiet", "-aec", "COREWATCH", "127.0.0.1", str(server.port)], check=True)
    return server.processor_s() - before


def make_series(folder: Path, slices: int) -> list[Path]:
    """A CT series of noise, which does not compress, so that no server can save work."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    study, series = generate_uid(), generate_uid()
    for k in range(slices):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientID, image.PatientName, image.Modality = "bench", "Bench^Mark", "CT"
        image.InstanceNumber, image.SamplesPerPixel, image.PhotometricInterpretation = k + 1, 1, "MONOCHROME2"
        image.Rows = image.Columns = SIZE
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0.5 * k], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.RescaleSlope, image.RescaleIntercept = [0.45, 0.45], 1, 0
        image.add_new(0x7FE00010, "OW", random.integers(-1000, 2000, (SIZE, SIZE), np.int16).tobytes())
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(folder / f"{k:04}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: psutil.Process

    def processor_s(self) -> float:
        """Processor seconds that it and its children, also those that ended, have used."""
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended: its parent's times hold its own
                total += sum(process.cpu_times()[:4])
        return total


@contextmanager
def program(command: list[str], port: int) -> Iterator[Server]:
    """A server in a process of its own, from when it accepts connections."""
    # storescp and Orthanc are built on DCMTK too: without this their answers wait for a delayed acknowledgement, 40 ms an image
    environment = {**os.environ, "TCP_NODELAY": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        wait_until(lambda: accepts(port) or process.poll() is not None)
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def listener(folder: Path, processes: int) -> Iterator[Server]:
    """corewatch's listener."""
    port = free_port()
    options = {"port": port, "host": "127.0.0.1", "processes": processes, "reserve_gib": 0}
    settings = json.dumps({"data_dir": str(folder), "listener": options})
    with program([sys.executable, "-c", LISTENER, settings], port) as ready:
        yield ready


@contextmanager
def pynetdicom(folder: Path) -> Iterator[Server]:
    """A listener made with pynetdicom's public interface, with the same durability: fsync and rename before the response."""
    port = free_port()
    with program([sys.executable, "-c", PYNETDICOM, str(port), str(folder)], port) as ready:
        yield ready


@contextmanager
def storescp(folder: Path, binary: str) -> Iterator[Server]:
    """DCMTK's storescp, one process an association, a new name for every image."""
    port = free_port()
    folder.mkdir()
    command = [binary, "--fork", "--unique-filenames", "--max-pdu", "131072", "--output-directory", str(folder), str(port)]
    with program(command, port) as ready:
        yield ready


@contextmanager
def orthanc(folder: Path, binary: str) -> Iterator[Server]:
    """Orthanc with its default settings, apart from ports and folders; repeated images overwrite."""
    port = free_port()
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": free_port(),
        "DicomPort": port,
        "OverwriteInstances": True,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with program([binary, str(folder / "orthanc.json")], port) as ready:
        yield ready


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("a server did not start")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
