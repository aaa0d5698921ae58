"""Finding DICOM in folders and archives that come from anywhere."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from conversion.media import ARCHIVE_LIMITS, ArchiveLimits, find_files, unpack
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from tests.support_conversion import stack, write


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write(tmp_path / "made", stack([0.0, 1.0, 2.0]))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def dicomdir(path: Path) -> Path:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    d.file_meta.MediaStorageSOPInstanceUID, d.file_meta.TransferSyntaxUID = "1.2.3", ExplicitVRLittleEndian
    d.FileSetID = "CD"
    d.save_as(path, enforce_file_format=True)
    return path


def refused(archive: Path, target: Path, limits: ArchiveLimits = ARCHIVE_LIMITS) -> str:
    with pytest.raises(NotAnalysed) as caught:
        unpack(archive, target, limits)
    assert caught.value.reason is Reason.UNREADABLE
    assert list(target.iterdir()) == []
    return caught.value.detail


def test_a_folder_tree_is_searched_by_content(files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "made"
    deep = root / "A" / "B"
    deep.mkdir(parents=True)
    moved = files[0].rename(deep / "IM1")
    (root / "report.pdf").write_bytes(b"%PDF-1.4" + b" " * 200)
    (root / "empty.dcm").touch()
    dicomdir(root / "DICOMDIR")
    dicomdir(root / "DIRFILE")
    assert find_files(root) == sorted([moved, files[1], files[2]])
    assert find_files(files[1]) == [files[1]]
    assert find_files(root / "report.pdf") == []


def test_links_are_not_followed(files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "dropped"
    root.mkdir()
    (root / "file").symlink_to(files[0])
    (root / "folder").symlink_to(tmp_path / "made", target_is_directory=True)
    assert find_files(root) == []


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert find_files(tmp_path) == []


def test_an_archive_gives_its_dicom_files_under_names_of_ours(files: list[Path], tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("Doe^Jane/", b"")
        made.write(files[0], "Doe^Jane/IM1")
        made.write(dicomdir(tmp_path / "d"), "DICOMDIR")
        made.write(files[1], "../../outside")
        made.write(files[2], "/etc/cron.d/absolute")
        made.writestr("readme.txt", "text")
    found = unpack(archive, target)
    assert found == [target / f"{n:06d}.dcm" for n in (1, 2, 3)]
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in files]
    assert sorted(target.iterdir()) == found
    assert not (tmp_path / "outside").exists()


def test_a_link_in_an_archive_is_left_out(files: list[Path], tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(files[0], "IM1")
        link = zipfile.ZipInfo("IM2")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, files[1].read_bytes())
    assert len(unpack(archive, target)) == 1


def test_a_bomb_is_refused_before_it_is_unpacked(files: list[Path], tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.write(files[0], "IM1")
        made.writestr("IM2", files[1].read_bytes() + b"\0" * (30 << 20))
    assert "too much data" in refused(archive, target, ArchiveLimits(total_bytes=10 << 20))
    assert "far more data" in refused(archive, target, ArchiveLimits(ratio=100.0, ratio_free_bytes=1 << 20))
    assert len(unpack(archive, target)) == 2, "30 MB of nothing do no harm"


def test_a_size_stated_too_small_does_not_help_a_bomb(files: list[Path], tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "a.zip"
    content = files[1].read_bytes() + b"\0" * (5 << 20)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("IM", content)
    size = len(content).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(size, (4096).to_bytes(4, "little")))
    assert refused(archive, target)


def test_limits_on_entries_and_sizes(files: list[Path], tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for n, path in enumerate(files):
            made.write(path, str(n))
    assert "3; 2 are allowed" in refused(archive, target, ArchiveLimits(files=2))
    assert "too much data" in refused(archive, target, ArchiveLimits(total_bytes=files[0].stat().st_size * 2))
    assert len(unpack(archive, target, ArchiveLimits(files=3, total_bytes=sum(path.stat().st_size for path in files)))) == 3


def test_archives_that_cannot_be_read(files: list[Path], tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK\x03\x04 no zip")
    assert "damaged" in refused(archive, target)

    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.write(files[0], "IM1")
        made.write(files[1], "IM2")
    whole = bytearray(archive.read_bytes())
    whole[-700] ^= 0xFF  # inside of the second file
    archive.write_bytes(whole)
    assert "damaged" in refused(archive, target)

    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("readme.txt", "text")
    assert "no DICOM file" in refused(archive, target)

    with zipfile.ZipFile(archive, "w") as made:
        made.write(files[0], "IM1")
    locked = archive.read_bytes().replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\x01\0")
    archive.write_bytes(locked.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0"))
    assert "password" in refused(archive, target)
