"""The listener as a separate process, against DCMTK's senders."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread, uid

from tests.support.listener import arrivals, associate, closing, ct_slice, file_bytes, images, listener_settings
from tests.support.listener_program import program
from tests.support.manager import service_manager
from tests.support.net import answers, free_port, wait_for


def write_slices(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    for n in range(count):
        (folder / f"{n}.dcm").write_bytes(file_bytes(ct_slice(n + 1, size=64)))
    return [str(f) for f in sorted(folder.iterdir())]


@pytest.mark.parametrize("processes", [1, 3])
def test_serves_and_stops(tmp_path: Path, processes: int) -> None:
    settings = listener_settings(tmp_path, port=free_port(), processes=processes)
    with program(settings) as process:
        open_ones = [associate(settings.listener.port) for _ in range(6)]
        assert all(a.is_established for a in open_ones)
        for n, association in enumerate(open_ones):
            assert association.send_c_store(ct_slice(n)).Status == 0
        for association in open_ones:
            association.release()
        assert len(psutil.Process(process.pid).children()) == (0 if processes == 1 else processes)
        assert all(closing(folder)["outcome"] == "released" for folder in arrivals(settings))
    assert sum(len(images(f)) for f in arrivals(settings)) == 6
    assert not answers(settings.listener.port)


def test_an_open_association_is_finished_after_the_signal(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path, port=free_port())
    with program(settings) as process:
        association = associate(settings.listener.port)
        assert association.send_c_store(ct_slice(1)).Status == 0
        process.send_signal(signal.SIGTERM)
        wait_for("the port to close", lambda: not answers(settings.listener.port))
        assert association.send_c_store(ct_slice(2)).Status == 0
        association.release()
        assert process.wait(20) == 0
    (folder,) = arrivals(settings)
    assert closing(folder)["stored"] == 2


@pytest.mark.parametrize(
    ("end", "constants"),
    [(psutil.Process.kill, {}), (psutil.Process.suspend, {"dicom_listener.prefork.HANGS_AFTER_S": 4.0})],
    ids=["dies", "hangs"],
)
def test_a_process_that_ends_is_replaced(
    tmp_path: Path, end: Callable[[psutil.Process], None], constants: dict[str, float]
) -> None:
    settings = listener_settings(tmp_path, port=free_port(), processes=2)
    with program(settings, constants=constants) as process:
        parent = psutil.Process(process.pid)
        victim = wait_for("the processes", lambda: len(parent.children()) == 2 and parent.children()[0])
        end(victim)
        wait_for("another", lambda: len(parent.children()) == 2 and victim not in parent.children())
        association = associate(settings.listener.port)
        assert association.send_c_store(ct_slice(1)).Status == 0
        association.release()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_service_manager_is_notified_until_the_listener_hangs(tmp_path: Path, processes: int) -> None:
    settings = listener_settings(tmp_path, port=free_port(), processes=processes)
    with service_manager(tmp_path, watchdog_s=2.0) as manager, program(settings, environment=manager.environment) as process:
        assert manager.next() == "READY=1"
        assert answers(settings.listener.port)
        assert [manager.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
        process.send_signal(signal.SIGSTOP)
        assert manager.falls_silent(), "systemd kills what says nothing"
        process.send_signal(signal.SIGCONT)
        assert manager.next() == "WATCHDOG=1"


def test_without_its_parent_a_process_ends(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path, port=free_port(), processes=2)
    with pytest.raises(AssertionError), program(settings) as process:
        children = psutil.Process(process.pid).children()
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=15)
        assert not alive
        process.wait()


@pytest.mark.servers
class TestDcmtk:
    @pytest.fixture(autouse=True)
    def dcmtk(self, tool: Callable[[str], str]) -> None:
        for name in ("echoscu", "dcmsend", "storescu"):
            tool(name)

    def test_dcmsend_and_echoscu(self, tmp_path: Path) -> None:
        settings = listener_settings(tmp_path, port=free_port())
        files = write_slices(tmp_path / "slices", 20)
        port = str(settings.listener.port)
        with program(settings):
            subprocess.run(["echoscu", "-aec", "COREWATCH", "127.0.0.1", port], check=True)
            subprocess.run(["dcmsend", "-aec", "COREWATCH", "127.0.0.1", port, *files], check=True)
            (folder,) = arrivals(settings)
            assert closing(folder) == {**closing(folder), "outcome": "released", "stored": 20}
        assert sorted(dcmread(f).InstanceNumber for f in images(folder)) == list(range(1, 21))

    def test_a_wrong_called_title_is_rejected_as_such(self, tmp_path: Path) -> None:
        settings = listener_settings(tmp_path, port=free_port())
        with program(settings):
            sent = subprocess.run(
                ["echoscu", "-aec", "SOMEONE", "127.0.0.1", str(settings.listener.port)],
                capture_output=True,
                text=True,
                check=False,
            )
        assert sent.returncode != 0
        assert "Called AE Title Not Recognized" in sent.stderr

    def test_four_senders_at_once(self, tmp_path: Path) -> None:
        settings = listener_settings(tmp_path, port=free_port(), processes=2)
        files = write_slices(tmp_path / "slices", 20)
        command = ["dcmsend", "-aec", "COREWATCH", "127.0.0.1", str(settings.listener.port), *files]
        with program(settings):
            codes: list[int] = []
            senders = [
                threading.Thread(target=lambda: codes.append(subprocess.run(command, check=False).returncode)) for _ in range(4)
            ]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            assert codes == [0, 0, 0, 0]
            folders = arrivals(settings)
            assert [closing(f)["stored"] for f in folders] == [20] * 4
        names = [{f.name for f in images(folder)} for folder in folders]
        assert names == [names[0]] * 4, "the same images have the same names in every arrival"

    def test_an_aborting_sender(self, tmp_path: Path) -> None:
        settings = listener_settings(tmp_path, port=free_port())
        files = write_slices(tmp_path / "slices", 5)
        with program(settings):
            subprocess.run(
                ["storescu", "--abort", "-aec", "COREWATCH", "127.0.0.1", str(settings.listener.port), *files], check=False
            )
            (folder,) = arrivals(settings)
            assert closing(folder) == {**closing(folder), "outcome": "aborted", "stored": 5}

    @pytest.mark.parametrize(
        ("option", "expected"),
        [
            ("-xi", uid.ImplicitVRLittleEndian),
            ("-xe", uid.ExplicitVRLittleEndian),
            ("-xb", uid.ExplicitVRBigEndian),
            ("-xd", uid.DeflatedExplicitVRLittleEndian),
        ],
    )
    def test_uncompressed_transfer_syntaxes(self, tmp_path: Path, option: str, expected: str) -> None:
        settings = listener_settings(tmp_path, port=free_port())
        files = write_slices(tmp_path / "slices", 1)
        with program(settings):
            # storescu proposes little endian besides, which is preferred; only -xi proposes nothing else
            arguments = [option, "-aec", "COREWATCH", "127.0.0.1", str(settings.listener.port), *files]
            subprocess.run(["storescu", *arguments], check=True)
            (folder,) = arrivals(settings)
            closing(folder)
        stored = dcmread(images(folder)[0])
        assert stored == ct_slice(1, size=64)
        plain = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian}
        assert stored.file_meta.TransferSyntaxUID in {expected} | plain

    def test_real_encodings_pass_through_untouched(self, tmp_path: Path, shared: Path) -> None:
        settings = listener_settings(tmp_path, port=free_port())
        sources = sorted(f for f in (shared / "data" / "encodings").rglob("*") if f.is_file() and is_instance(f))
        assert sources
        with program(settings):
            for source in sources:
                subprocess.run(
                    ["dcmsend", "-dn", "-nuc", "-aec", "COREWATCH", "127.0.0.1", str(settings.listener.port), str(source)],
                    check=False,
                    capture_output=True,
                )
            folders = arrivals(settings)
            assert all(closing(f)["outcome"] == "released" for f in folders)
        got = {(d.SOPInstanceUID, d.file_meta.TransferSyntaxUID) for folder in folders for d in map(dcmread, images(folder))}
        wanted = {(d.SOPInstanceUID, d.file_meta.TransferSyntaxUID) for d in map(dcmread, sources)}
        missing = {syntax for _, syntax in wanted - got}
        # uncompressed encodings are all sent as the preferred one
        assert missing == {uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian}


def is_instance(path: Path) -> bool:
    """Whether this is a DICOM file with the UIDs that sending needs."""
    with path.open("rb") as stream:
        stream.seek(128)
        return stream.read(4) == b"DICM"
