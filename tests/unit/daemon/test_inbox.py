"""What is dropped into a watched folder: when it is taken, as what, and what becomes of it."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

import daemon.watch.inbox
from corewatch.geometry import NETWORK_SHAPE, NETWORK_TO_RAS
from daemon.watch.inbox import LOOSE_WAIT_S, SPOOL_BACKOFF, UNFINISHED_SETTLE_S
from daemon.watch.rejection import drop_id
from daemon.watch.scan import DEFAULT_LIMITS
from tests.support.listener import captured_logs
from tests.support.ward import NOW, SETTLE_S, STAMP, Ward, image


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


def aligned() -> bytes:
    return gzip.compress(nibabel.Nifti1Image(np.zeros(NETWORK_SHAPE, np.uint8), NETWORK_TO_RAS).to_bytes(), 1)


def test_nothing_is_ingested_before_it_has_settled(ward: Ward) -> None:
    (ward.path / "a").write_bytes(image(1))
    assert ward.poll()
    assert ward.poll(SETTLE_S - 0.1)
    assert ward.names() == ["a"]
    assert not ward.poll(0.1)
    assert (ward.names(), ward.names("processed")) == ([], [STAMP + "a"])


def test_a_folder_is_one_arrival(ward: Ward) -> None:
    (ward.path / "series" / "deep").mkdir(parents=True)
    (ward.path / "series" / "1").write_bytes(image(1))
    (ward.path / "series" / "deep" / "2.dcm").write_bytes(image(2))
    ward.settle()
    (arrival,) = ward.arrivals()
    assert arrival["files"] == sorted([image(1), image(2)])
    assert (arrival["source"], arrival["outcome"], arrival["stored"]) == ("folder", "released", 2)
    assert arrival["email"] == ["ward@hospital.example"]
    assert ward.names("processed") == [STAMP + "series"]
    assert sorted(p.name for p in (ward.path / "processed" / (STAMP + "series")).iterdir()) == ["1", "deep"]
    assert ward.rejected == []


def test_a_folder_waits_until_all_of_it_has_settled(ward: Ward) -> None:
    folder = ward.path / "series"
    folder.mkdir()
    for n in range(5):
        (folder / str(n)).write_bytes(image(n))
        ward.poll(SETTLE_S / 2)
    assert ward.arrivals() == []
    ward.poll(SETTLE_S)
    assert len(ward.arrivals()[0]["files"]) == 5


def test_loose_files_that_are_copied_one_after_another_are_grouped(ward: Ward) -> None:
    for n in range(4):
        (ward.path / f"{n}.dcm").write_bytes(image(n))
        ward.poll(SETTLE_S / 2)
    ward.poll(SETTLE_S / 2)
    assert ward.arrivals() == []
    ward.poll(SETTLE_S / 2)
    (arrival,) = ward.arrivals()
    assert len(arrival["files"]) == 4


def test_loose_files_wait_for_one_that_is_being_copied_up_to_a_limit(ward: Ward) -> None:
    (ward.path / "1.dcm").write_bytes(image(1))
    growing = ward.path / "2.dcm"
    growing.write_bytes(b"x")
    ward.poll()
    waited = 0.0
    while waited <= LOOSE_WAIT_S:
        with growing.open("ab") as stream:
            stream.write(b"x")
        ward.poll(1.0)
        waited += 1.0
        assert ward.arrivals() == []
    ward.poll(SETTLE_S - 1.0)
    with growing.open("ab") as stream:
        stream.write(b"x")
    ward.poll(1.0)
    assert ward.names() == ["2.dcm"]
    assert ward.arrivals()[0]["files"] == [image(1)]


def test_several_loose_files_at_once_are_one_arrival_and_bad_ones_are_rejected_together(ward: Ward) -> None:
    for n in range(3):
        (ward.path / f"{n}").write_bytes(image(n))
    (ward.path / "letter.txt").write_text("Dear colleague")
    (ward.path / "link").symlink_to("/etc/passwd")
    ward.settle()
    (arrival,) = ward.arrivals()
    assert len(arrival["files"]) == 3
    assert ward.names("processed") == [STAMP + n for n in "012"]
    assert [n for n in ward.names("rejected") if not n.endswith(".txt")] == [STAMP + "link"]
    assert (ward.path / "rejected" / (STAMP + "letter.txt.reason.txt")).read_text() == "The file is not DICOM.\n"
    assert [r.drop_id for r in ward.rejected] == [drop_id("letter.txt")], "one case for both"
    assert ward.rejected[0].reason.startswith("2 files could not be taken")
    assert (ward.path / "rejected" / (STAMP + "link")).readlink() == Path("/etc/passwd"), "moved as a link, not followed"


def test_a_copied_cd_is_one_rejection(ward: Ward) -> None:
    names = ["AUTORUN.INF", "README.TXT", "VIEWER.EXE"]
    for name in names:
        (ward.path / name).write_bytes(b"MZ" * 200)
    ward.settle()
    (answer,) = ward.rejected
    assert answer.reason == "3 files could not be taken. The file is not DICOM."
    assert [n for n in ward.names("rejected") if not n.endswith(".reason.txt")] == [STAMP + n for n in names]
    assert len(ward.names("rejected")) == 6, "each with its note"


def test_files_that_are_not_dicom_are_listed_beside_the_folder(ward: Ward) -> None:
    folder = ward.path / "series"
    folder.mkdir()
    (folder / "1").write_bytes(image(1))
    (folder / "notes.txt").write_text("hello")
    ward.settle()
    assert len(ward.arrivals()[0]["files"]) == 1
    note = (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert "notes.txt: The file is not DICOM." in note
    assert ward.rejected == []


def test_recipients_of_a_folder(ward: Ward) -> None:
    folder = ward.path / "series"
    folder.mkdir()
    (folder / "0").write_bytes(image(1))
    (folder / "email.txt").write_text("# who\nneuro@hospital.example\n\nnot an address\nward@hospital.example\n", "utf-8-sig")
    ward.settle()
    assert ward.arrivals()[0]["email"] == ["ward@hospital.example", "neuro@hospital.example"]
    assert "1 of its lines" in (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()


def test_a_zip_is_one_arrival(ward: Ward) -> None:
    with zipfile.ZipFile(ward.path / "case.zip", "w") as archive:
        archive.writestr("a/1", image(1))
        archive.writestr("a/2", image(2))
        archive.writestr("email.txt", "neuro@hospital.example")
    ward.settle()
    (arrival,) = ward.arrivals()
    assert arrival["files"] == sorted([image(1), image(2)])
    assert "neuro@hospital.example" in arrival["email"]
    assert ward.names("processed") == [STAMP + "case.zip"]


def test_a_zip_that_is_damaged_half_way_leaves_an_aborted_arrival(ward: Ward) -> None:
    path = ward.path / "case.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("1", image(1))
        archive.writestr("2", image(2))
    data = bytearray(path.read_bytes())
    second = data.index(image(2))
    data[second + 400] ^= 0xFF
    path.write_bytes(bytes(data))
    ward.settle()
    (arrival,) = ward.arrivals()
    assert (arrival["outcome"], len(arrival["files"])) == ("aborted", 1)
    assert ward.names("rejected") == [STAMP + "case.zip", STAMP + "case.zip.reason.txt"]


def test_an_aligned_head_is_an_arrival_of_its_own(ward: Ward) -> None:
    data = aligned()
    (ward.path / "head.nii.gz").write_bytes(data)
    (ward.path / "1.dcm").write_bytes(image(1))
    ward.settle()
    head = next(a for a in ward.arrivals() if not a["files"])
    assert (head["folder"] / "aligned.nii.gz").read_bytes() == data
    assert (head["outcome"], head["stored"]) == ("released", 1)
    assert len(ward.arrivals()) == 2


def test_a_head_on_another_grid_is_rejected(ward: Ward) -> None:
    image = nibabel.Nifti1Image(np.zeros((10, 10, 10), np.uint8), np.eye(4))
    (ward.path / "Secret Name.nii.gz").write_bytes(gzip.compress(image.to_bytes()))
    with captured_logs(daemon.watch.inbox) as logs:
        ward.settle()
    assert ward.arrivals() == []
    assert "146 x 182 x 133" in (ward.path / "rejected" / (STAMP + "Secret Name.nii.gz.reason.txt")).read_text()
    (rejected,) = ward.rejected
    assert "146 x 182 x 133" in rejected.reason
    assert (rejected.folder, rejected.rejected_at) == (ward.path, NOW)
    assert "Secret" not in repr(logs) + repr(rejected)
    assert [e["event"] for e in logs] == ["drop_rejected"]


def test_a_half_copied_drop_gets_more_time(ward: Ward) -> None:
    (ward.path / "series").mkdir()
    (ward.path / "series" / "1").write_bytes(image(1))
    (ward.path / "series" / "2.part").write_bytes(b"half")
    (ward.path / "empty").touch()
    ward.settle()
    assert ward.names() == ["empty", "series"]
    ward.poll(UNFINISHED_SETTLE_S)
    assert ward.names() == []
    assert "2.part" in (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert drop_id("empty") in {r.drop_id for r in ward.rejected}


def test_the_same_drop_again_gets_another_name(ward: Ward) -> None:
    for _ in range(3):
        (ward.path / "a").write_bytes(image(1))
        ward.settle()
    assert ward.names("processed") == [STAMP + "a", STAMP + "a-2", STAMP + "a-3"]
    assert len({a["files"][0] for a in ward.arrivals()}) == 1


def huge(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(size)  # a hole: takes no room on the disk


@pytest.mark.parametrize(
    ("name", "start", "size"),
    [
        ("film.dcm", bytes(128) + b"DICM", DEFAULT_LIMITS.instance_bytes + 1),
        ("head.nii.gz", b"\x1f\x8b", DEFAULT_LIMITS.aligned_bytes + 1),
        ("disk.img", b"", 10**12),
        ("all.zip", b"PK\x03\x04", 10**12),
    ],
)
def test_a_file_that_is_too_large_is_rejected_alone(ward: Ward, name: str, start: bytes, size: int) -> None:
    huge(ward.path / name, start, size)
    (ward.path / "series").mkdir()
    (ward.path / "series" / "1").write_bytes(image(1))
    ward.free = 10**10
    ward.settle()
    assert [a["files"] for a in ward.arrivals()] == [[image(1)]]
    assert [r.drop_id for r in ward.rejected] == [drop_id(name)]
    assert ward.names() == []


def test_a_file_that_is_too_large_is_left_out_of_a_folder(ward: Ward) -> None:
    (ward.path / "series").mkdir()
    (ward.path / "series" / "1").write_bytes(image(1))
    huge(ward.path / "series" / "film.dcm", bytes(128) + b"DICM", DEFAULT_LIMITS.instance_bytes + 1)
    huge(ward.path / "series" / "email.txt", b"me@example.org", 10**9)
    ward.settle()
    assert [(a["files"], a["email"]) for a in ward.arrivals()] == [([image(1)], ["ward@hospital.example"])]
    note = (ward.path / "processed" / (STAMP + "series.reason.txt")).read_text()
    assert "film.dcm: The file is too large: it has 2,048 MB" in note
    assert "email.txt: It is too long" in note


def test_a_zip_waits_for_room_for_its_unpacked_files(ward: Ward) -> None:
    with zipfile.ZipFile(ward.path / "case.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1", image(1))
        archive.writestr("2.dcm", bytes(128) + b"DICM" + bytes(20 * 1024**2))
    ward.free = int(ward.settings.listener.reserve_gib * 1024**3) + 10 * 1024**2
    ward.settle()
    assert ward.arrivals() == []
    assert ward.names() == ["case.zip"]
    ward.free += 20 * 1024**2
    ward.poll(SPOOL_BACKOFF.first_s)
    ward.settle()
    assert image(1) in ward.arrivals()[0]["files"]
    assert ward.names() == []


def test_a_file_that_is_too_large_is_left_out_of_a_zip(tmp_path: Path) -> None:
    ward = Ward(tmp_path, max_instance_mib=len(image(1)) / 1024**2)
    with zipfile.ZipFile(ward.path / "case.zip", "w") as archive:
        archive.writestr("1", image(1))
        archive.writestr("2", image(2) + bytes(1000))
    ward.settle()
    assert [a["files"] for a in ward.arrivals()] == [[image(1)]]


def test_a_long_or_odd_name_can_be_archived(ward: Ward) -> None:
    for name in ("ä" * 120 + ".dcm", os.fsdecode(b"caf\xe9"), "new\nline"):
        (ward.path / name).write_bytes(image(1))
    ward.settle()
    assert ward.names() == []
    assert len(ward.names("processed")) == 3


@pytest.mark.parametrize("loose", [True, False])
def test_the_inbox_waits_for_an_instance_whose_copy_pauses(tmp_path: Path, loose: bool) -> None:
    ward = Ward(tmp_path)
    folder = ward.path if loose else ward.path / "series"
    folder.mkdir(exist_ok=True)
    (folder / "1").write_bytes(image(1))
    whole = image(2)
    (folder / "2").write_bytes(whole[:-50])
    ward.settle()
    ward.poll(20)
    assert ward.arrivals() == [], "the copy may go on"
    assert ward.names() == (["1", "2"] if loose else ["series"])
    (folder / "2").write_bytes(whole)
    ward.settle()
    (arrival,) = ward.arrivals()
    assert arrival["files"] == sorted([image(1), whole])
    assert arrival["outcome"] == "released"


def test_an_instance_that_stays_truncated_is_ingested_in_the_end(tmp_path: Path) -> None:
    ward = Ward(tmp_path, incomplete_s=600)
    (ward.path / "series").mkdir()
    for n in range(1, 5):
        (ward.path / "series" / str(n)).write_bytes(image(n)[: -50 if n == 2 else None])
    ward.settle()
    ward.poll(590)
    assert ward.arrivals() == []
    ward.poll(11)
    (arrival,) = ward.arrivals()
    assert len(arrival["files"]) == 4, "the stage that reads it tells the operators"
    assert ward.names() == []
