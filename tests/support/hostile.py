"""Malicious files, named by what they do. All are small, and the same at every call."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.support.listener import ct_slice, file_bytes

UID = "1.2.826.0.1.3680043.8.498.5"
UNDEFINED = b"\xff\xff\xff\xff"


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One element, Explicit VR Little Endian (PS3.5 7.1.2), that states another length than it has where `length` is given."""
    stated = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    long = vr in {"OB", "OW", "SQ", "UN", "UT"}
    return head + (b"\0\0" + struct.pack("<L", stated) if long else struct.pack("<H", stated)) + value


def padded(text: str) -> bytes:
    data = text.encode("latin-1")
    return data + b"\0" * (len(data) % 2)


def meta(syntax: str = ExplicitVRLittleEndian, uid: str = UID) -> bytes:
    """Preamble, prefix and meta header."""
    inner = (
        element(0x00020002, "UI", padded(CTImageStorage))
        + element(0x00020003, "UI", padded(uid))
        + element(0x00020010, "UI", padded(syntax))
    )
    return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<L", len(inner))) + inner


def header(uid: str = UID) -> bytes:
    """The elements that say what it is."""
    return b"".join(
        element(tag, vr, padded(value))
        for tag, vr, value in (
            (0x00080016, "UI", CTImageStorage),
            (0x00080018, "UI", uid),
            (0x00080060, "CS", "CT"),
            (0x0020000D, "UI", "1.2.1"),
            (0x0020000E, "UI", "1.2.2"),
        )
    )


def nested(depth: int) -> bytes:
    """Sequences within sequences, each of undefined length, without an end."""
    return meta() + header() + (element(0x00400100, "SQ", b"", 0xFFFFFFFF) + b"\xfe\xff\x00\xe0" + UNDEFINED) * depth


def nested_with_ends(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(data)) + data
        data = element(0x00400100, "SQ", item)
    return meta() + header() + data


def deflated_bomb(mib: int = 64, marked: str = "plainly") -> bytes:
    """Some KB that inflate to `mib` MiB of pixels; its meta header says deflated `plainly`, `late` or `without a preamble`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(header() + element(0x7FE00010, "OW", b"", mib << 20))
    for _ in range(mib):
        body += packer.compress(bytes(1 << 20))
    start = meta(DeflatedExplicitVRLittleEndian)
    if marked == "late":
        start = start[:132] + element(0x00020001, "OB", bytes(5000)) + start[132:]
    elif marked == "without a preamble":
        start = start[132:]
    return start + body + packer.flush()


def huge_matrix() -> bytes:
    dataset = ct_slice(1)
    dataset.Rows = dataset.Columns = 65535
    return file_bytes(dataset)


def with_uid(uid: str) -> bytes:
    return meta(uid=uid) + header(uid)


def zip_of(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def overlapping_zip(copies: int = 300) -> bytes:
    """One packed file of 4 MiB that the table of contents names again and again."""
    plain = zip_of(("0", bytes(4 << 20)))
    at = plain.index(b"PK\x01\x02")
    end = plain.index(b"PK\x05\x06")
    table = plain[at:end] * copies
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, copies, copies, len(table), at, 0)
    return plain[:at] + table + tail


def nested_zip(levels: int = 5) -> bytes:
    data = zip_of(("bomb", bytes(1 << 20)))
    for level in range(levels):
        data = zip_of(*((f"{level}-{n}.zip", data) for n in range(8)))
    return data


CORPUS: dict[str, Callable[[], bytes]] = {
    "empty meta.dcm": lambda: bytes(128) + b"DICM",
    "cut in the meta header.dcm": lambda: meta()[:150],
    "cut in an element.dcm": lambda: (meta() + header())[:-3],
    "cut in the pixels.dcm": lambda: file_bytes(ct_slice(1))[:-50],
    "65535 x 65535.dcm": huge_matrix,
    "nested 3000 deep.dcm": lambda: nested(3000),
    "nested 2000 deep with ends.dcm": lambda: nested_with_ends(2000),
    "element of 4 GB.dcm": lambda: meta() + header() + element(0x00091001, "OB", b"x", 0xFFFFFFF0),
    "text of 65534.dcm": lambda: meta() + header() + element(0x00100010, "PN", b"x", 0xFFFE),
    "meta length of 4 GB.dcm": lambda: bytes(128) + b"DICM" + element(0x00020000, "UL", UNDEFINED) + meta()[144:] + header(),
    "meta length of none.dcm": lambda: bytes(128) + b"DICM" + element(0x00020000, "UL", bytes(4)) + meta()[144:] + header(),
    "unknown transfer syntax.dcm": lambda: meta("1.2.3.4.5") + header(),
    "implicit said, explicit written.dcm": lambda: meta(ImplicitVRLittleEndian) + header(),
    "uid with slashes.dcm": lambda: with_uid("../../../../tmp/owned"),
    "absolute uid.dcm": lambda: with_uid("/etc/cron.d/owned"),
    "uid with a null.dcm": lambda: with_uid("1.2\0/../3"),
    "uid of 10000.dcm": lambda: with_uid("1." * 5000),
    "uid of control characters.dcm": lambda: with_uid("1.2\n[error] forged line\x1b[31m"),
    "deflated bomb.dcm": deflated_bomb,
    "deflated nonsense.dcm": lambda: meta(DeflatedExplicitVRLittleEndian) + b"\xff" * 500,
    "pixels without end.dcm": lambda: meta() + header() + element(0x7FE00010, "OB", b"\xfe\xff\x00\xe0" + UNDEFINED, 0xFFFFFFFF),
    "random after the prefix.dcm": lambda: bytes(128) + b"DICM" + bytes(n * 37 % 256 for n in range(5000)),
    "zip slip.zip": lambda: zip_of(("../../owned.dcm", file_bytes(ct_slice(1)))),
    "absolute.zip": lambda: zip_of(("/etc/owned.dcm", file_bytes(ct_slice(1)))),
    "backslash.zip": lambda: zip_of(("..\\..\\owned.dcm", file_bytes(ct_slice(1)))),
    "drive.zip": lambda: zip_of(("C:/owned.dcm", file_bytes(ct_slice(1)))),
    "dot.zip": lambda: zip_of((".", file_bytes(ct_slice(1)))),
    "bomb.zip": lambda: zip_of(("0.dcm", bytes(128) + b"DICM" + bytes(200 << 20))),
    "overlapping.zip": overlapping_zip,
    "nested.zip": nested_zip,
    "end only.zip": lambda: b"PK\x05\x06" + bytes(18),
    "table elsewhere.zip": lambda: zip_of(("0", b"1"))[:-8] + struct.pack("<LH", 0xFFFFFFF0, 0) + b"\0\0",
    "gzip bomb.nii.gz": lambda: _gzip(bytes(64 << 20)),
    "gzip cut.nii.gz": lambda: _gzip(bytes(1000))[:12],
}
"""Name of the file as it is dropped -> its bytes."""


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(data) + packer.flush()
