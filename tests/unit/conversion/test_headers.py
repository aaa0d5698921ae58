"""The header index: what a scanner or archive may write, and what must become of it."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from conversion.headers import read_instance, supported_transfer_syntaxes
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from tests.support import hostile
from tests.support.hostile import deflated_bomb
from tests.support_conversion import SERIES_UID, STUDY_UID, enhanced, head, image, stack, write


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def raw_file(path: Path, *more: bytes, preamble: bool = True) -> Path:
    """An explicit little endian file made of bytes: values that no writer of a library would let through."""
    meta = element(0x00020010, b"UI", ExplicitVRLittleEndian.encode() + b"\0")
    needed = {
        0x00080016: element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        0x00080018: element(0x00080018, b"UI", b"1.2.3\0"),
        0x0020000D: element(0x0020000D, b"UI", b"1.2.4\0"),
        0x0020000E: element(0x0020000E, b"UI", b"1.2.5\0"),
    }
    body = needed | {struct.unpack("<HH", one[:4])[0] << 16 | struct.unpack("<HH", one[:4])[1]: one for one in more}
    length = element(0x00020000, b"UL", struct.pack("<L", len(meta)))
    start = b"\0" * 128 + b"DICM" + length + meta if preamble else b""
    path.write_bytes(start + b"".join(body[tag] for tag in sorted(body)))
    return path


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_index_is_the_same_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    slice_ = image(head(), (-1.5, 2.0, 30.25), 7)
    if syntax == ExplicitVRBigEndian:
        slice_.PixelData = slice_.PixelData[::-1]
    (path,) = write(tmp_path, [slice_], syntax)
    found = read_instance(path)
    assert (found.series_uid, found.study_uid, found.sop_instance_uid) == (SERIES_UID, STUDY_UID, f"{SERIES_UID}.7")
    assert found.transfer_syntax_uid == syntax
    assert (found.position_lps, found.pixel_spacing_mm) == ((-1.5, 2.0, 30.25), (0.5, 0.5))
    assert (found.rows, found.columns, found.frames, found.instance_number) == (40, 36, 1, 7)
    assert found.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert (found.modality, found.body_part, found.contrast_agent) == ("CT", "HEAD", "IODINE")


def test_values_that_are_none_cost_only_themselves(tmp_path: Path) -> None:
    path = raw_file(
        tmp_path / "a",
        element(0x00200011, b"IS", b"four"),
        element(0x00200013, b"IS", b"12.0"),
        element(0x00200032, b"DS", b"1.0\\2.0"),
        element(0x00200037, b"DS", b"1\\0\\0\\0\\1\\nan"),
        element(0x00280010, b"US", b""),
        element(0x00280011, b"IS", b"512"),
        element(0x00280030, b"DS", b"0\\0.5"),
        element(0x00180050, b"DS", b"inf"),
    )
    found = read_instance(path)
    assert (found.series_number, found.instance_number) == (None, 12)
    assert (found.position_lps, found.orientation, found.pixel_spacing_mm, found.slice_thickness_mm) == (None, None, None, None)
    assert (found.rows, found.columns) == (None, 512)


@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")
@pytest.mark.parametrize(
    ("declared", "written", "meant"),
    [
        (b"ISO_IR 100", "Schädel".encode("latin-1"), "Schädel"),
        (b"ISO_IR 192", "Schädel".encode(), "Schädel"),
        (b"", "Schädel".encode("latin-1"), None),
        (b"NO SUCH SET", "Schädel".encode("latin-1"), None),
    ],
)
def test_text_follows_the_character_set_and_never_fails(tmp_path: Path, declared: bytes, written: bytes, meant: str | None) -> None:
    path = raw_file(tmp_path / "a", element(0x00080005, b"CS", declared), element(0x0008103E, b"LO", written))
    found = read_instance(path).series_description
    assert found == meant if meant else (found.startswith("Sch") and found.endswith("del"))


def test_a_file_without_preamble_is_read_as_its_bytes_show(tmp_path: Path) -> None:
    found = read_instance(raw_file(tmp_path / "a", element(0x00080060, b"CS", b"CT"), preamble=False))
    assert (found.modality, found.transfer_syntax_uid) == ("CT", ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\0" * 400, b"PK\x03\x04" + b"\1" * 300, b"\x08\x00 not dicom at all, really not"]
)
def test_what_is_not_dicom_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(NotAnalysed) as caught:
        read_instance(path)
    assert caught.value.reason is Reason.UNREADABLE


def test_a_header_that_is_cut_is_unreadable_wherever_it_is_cut(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [image(head(), (0, 0, 0))])
    whole = path.read_bytes()
    at = whole.index(b"\x20\0\x0e\0UI")  # Series Instance UID
    for length in range(0, at, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(NotAnalysed) as caught:
            read_instance(path)
        assert caught.value.reason is Reason.UNREADABLE
        assert str(tmp_path) not in str(caught.value)


def test_the_missing_uid_is_named(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a", element(0x0020000E, b"UI", b""))
    with pytest.raises(NotAnalysed, match="no Series Instance UID"):
        read_instance(path)


def test_a_missing_file_is_no_verdict_on_the_series(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_instance(tmp_path / "gone")


def test_multi_frame_index_holds_what_frames_share(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [enhanced(stack([0, 1, 2]))])
    found = read_instance(path)
    assert found.frames == 3
    assert found.position_lps is None
    assert found.orientation == (1, 0, 0, 0, 1, 0)
    assert (found.pixel_spacing_mm, found.slice_thickness_mm) == ((0.5, 0.5), 1.0)


def test_the_lossless_syntaxes_of_ct_are_supported() -> None:
    prefix = "1.2.840.10008.1.2"
    lossless = {
        prefix,
        f"{prefix}.1",
        f"{prefix}.1.99",
        f"{prefix}.2",
        f"{prefix}.5",
        *(f"{prefix}.4.{n}" for n in (57, 70, 80, 90)),
    }
    assert lossless <= set(supported_transfer_syntaxes())
    assert f"{prefix}.4.100" not in supported_transfer_syntaxes()  # MPEG-2


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no_meta.dcm", "not DICOM"), ("no_preamble.dcm", "no SOP Class UID"), ("meta_missing_tsyntax.dcm", "no SOP Class UID")],
)
def test_odd_files_say_why(shared: Path, name: str, reason: str) -> None:
    with pytest.raises(NotAnalysed, match=reason):
        read_instance(shared / "data" / "odd" / name)


def test_odd_files_that_can_be_indexed(shared: Path) -> None:
    odd = shared / "data" / "odd"
    assert read_instance(odd / "enhanced_ct_perfusion_multiframe.dcm").contrast_agent == "Iohexol"
    assert read_instance(odd / "legacy_converted_enhanced_ct.dcm").frames == 3
    assert "LOCALIZER" in read_instance(odd / "head_localizer.dcm").image_type
    assert read_instance(odd / "structured_report.dcm").modality == "SR"


@pytest.mark.parametrize("said", ["plainly", "late", "without a preamble"])
def test_the_header_of_what_inflates_without_end_is_all_that_is_inflated(tmp_path: Path, said: str) -> None:
    (tmp_path / "bomb").write_bytes(deflated_bomb(64, said))
    tracemalloc.start()
    try:
        assert read_instance(tmp_path / "bomb").transfer_syntax_uid == DeflatedExplicitVRLittleEndian
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    (tmp_path / "small").write_bytes(deflated_bomb(0, said))
    assert read_instance(tmp_path / "small").transfer_syntax_uid == DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("number", [b"1E30", b"-1E300 ", b"2147483648"])
def test_an_integer_string_beyond_its_range_is_none(tmp_path: Path, number: bytes) -> None:
    found = read_instance(raw_file(tmp_path / "a", element(0x00200013, b"IS", number)))
    assert found.instance_number is None


def test_elements_without_end_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros are elements of eight bytes each; a file of gigabytes would keep its reader busy for a quarter of an hour."""
    monkeypatch.setattr("conversion.elements._MOST_READS", 2000)
    (tmp_path / "zeros").write_bytes(hostile.meta() + hostile.header() + bytes(100_000))
    with pytest.raises(NotAnalysed, match="damaged"):
        read_instance(tmp_path / "zeros")
    (tmp_path / "few").write_bytes(hostile.meta() + hostile.header() + bytes(800))
    assert read_instance(tmp_path / "few").sop_instance_uid == hostile.UID
