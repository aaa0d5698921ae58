"""Whether the listener stays as it is while it works: memory, threads and descriptors over many images, associations and probes.

    python -m benchmarks.soak --instances 50000 --associations 2000

Sends small images over many associations, a few at a time, with probes of the port between them: connections that are closed at
once, reset, or left in the middle of a request. Prints a line every twentieth of the way, and ends with 1 when resident memory grew
by more than `--most-mib` after the first tenth, or a thread or descriptor was left.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.ingest import LISTENER, free_port, wait_until
from tests.support import wire
from tests.support.listener import ct_slice, file_bytes

AT_ONCE = 4
FIRST_ELEMENT = b"\x08\x00\x16\x00"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=50_000)
    parser.add_argument("--associations", type=int, default=2_000)
    parser.add_argument("--size", type=int, default=64, help="rows and columns of an image")
    parser.add_argument("--most-mib", type=float, default=8.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, listener(Path(name)) as (process, port):
        sys.exit(0 if soak(process, port, Path(name), options) else 1)


@dataclass(frozen=True)
class State:
    """What may not grow."""

    rss_mib: float
    threads: int
    descriptors: int

    @classmethod
    def of(cls, process: psutil.Process) -> State:
        """Of a process, now."""
        return cls(process.memory_info().rss / 2**20, process.num_threads(), process.num_fds())


def soak(process: psutil.Process, port: int, folder: Path, options: argparse.Namespace) -> bool:
    """Send it all; returns whether the listener is as it was."""
    template = Template(options.size)
    each = max(1, options.instances // options.associations)
    first = State.of(process)
    warm = first
    start = time.perf_counter()
    step = max(AT_ONCE, options.associations // 20)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in range(0, options.associations, step):
            numbers = range(done, min(done + step, options.associations))
            list(pool.map(lambda number: associate_and_send(port, template, number * each, each), numbers))
            state = settled(process, first)
            if done < options.associations // 10:
                warm = state
            sent = (numbers[-1] + 1) * each
            print(
                f"{sent:7} images, {numbers[-1] + 1:5} associations, {time.perf_counter() - start:6.1f} s: "
                f"{state.rss_mib:6.1f} MiB, {state.threads} threads, {state.descriptors} descriptors",
                flush=True,
            )
            for arrival in (folder / "data" / "received").iterdir():  # the disk is not what is measured
                shutil.rmtree(arrival)
    last = settled(process, first)
    grown = last.rss_mib - warm.rss_mib
    print(f"grown after the first tenth: {grown:.1f} MiB; left: {last.threads - first.threads} threads, ", end="")
    print(f"{last.descriptors - first.descriptors} descriptors")
    return grown <= options.most_mib and last.threads <= first.threads and last.descriptors <= first.descriptors


def settled(process: psutil.Process, before: State) -> State:
    """The state once ended associations are forgotten, or after some seconds."""
    for _ in range(100):
        state = State.of(process)
        if state.threads <= before.threads and state.descriptors <= before.descriptors:
            return state
        time.sleep(0.05)
    return State.of(process)


class Template:
    """An image whose SOP Instance UID is put in by number."""

    def __init__(self, size: int) -> None:
        whole = file_bytes(ct_slice(1, size=size))
        data = whole[whole.index(FIRST_ELEMENT) :]
        uid = str(ct_slice(1).SOPInstanceUID).encode()
        self._before, self._after = data.split(uid, 1)
        self._uid_length = len(uid)

    def message(self, number: int) -> bytes:
        """A C-STORE-RQ as P-DATA-TF PDUs."""
        uid = b"2.25." + str(number).zfill(self._uid_length - 5).encode()
        out = wire.pdu(4, wire.pdv(wire.store_command(uid), 3))
        data = self._before + uid + self._after
        pieces = [data[k : k + 16_000] for k in range(0, len(data), 16_000)]
        return out + b"".join(wire.pdu(4, wire.pdv(p, 2 if p is pieces[-1] else 0)) for p in pieces)


def associate_and_send(port: int, template: Template, first: int, count: int) -> None:
    """One association, after a probe of the port."""
    probe(port, first)
    with wire.raw_peer(port, timeout=60) as peer:
        peer.associate()
        for number in range(first, first + count):
            peer.send(template.message(number))
            if peer.status() != 0:
                sys.exit("an image was refused")
        if first % 3:
            peer.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
            peer.read()
        else:
            peer.send(wire.pdu(wire.ABORT, bytes(4)))


def probe(port: int, number: int) -> None:
    """What load balancers, scanners and dying senders do."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        if number % 4 == 1:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        elif number % 4 == 2:
            sock.sendall(wire.associate_rq()[:40])
        elif number % 4 == 3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def listener(folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    """corewatch's listener in a process of its own."""
    port = free_port()
    options = {"port": port, "host": "127.0.0.1", "reserve_gib": 0}
    settings = json.dumps({"data_dir": str(folder / "data"), "listener": options})
    process = subprocess.Popen([sys.executable, "-c", LISTENER, settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port))
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    try:
        with wire.raw_peer(port) as peer:
            peer.associate()
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
