"""A-ASSOCIATE-RQ PDUs, right and wrong: fixed fields, items and sub-items, lengths."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.support.conversations.base import BOTH, ENDLESS, MAX_PDU, REQUEST, USER, VERIFICATION
from tests.support.wire import associate_rq, context, item, pdu


def fixed_fields() -> Iterator[tuple[str, bytes]]:
    """Protocol version, AE titles, reserved fields."""
    for version in (0, 1, 2, 3, 0x8000, 0x8001, 0xFFFE, 0xFFFF):
        yield f"version {version:04X}", associate_rq(BOTH, version=version)
    titles = {
        "of 16 characters": b"ABCDEFGHIJKLMNOP",
        "with spaces before": b"   RAW",
        "with a space within": b"RAW MODALITY",
        "padded with NUL": b"RAW" + bytes(13),
        "padded with NUL and spaces": b"RAW\0 \0 \0",
        "with NUL and a rest": b"RAW\0garbage",
        "of spaces": b" " * 16,
        "of NUL": bytes(16),
        "in lower case": b"raw",
        "with a backslash": b"RAW\\1",
        "with a line feed": b"RAW\n1",
        "with an escape": b"RAW\x1b1",
        "with a byte above 127": b"RAW\xe9",
    }
    for name, title in titles.items():
        yield f"calling title {name}", associate_rq(BOTH, calling=title)
    for name, title in {
        "padded with NUL": b"COREWATCH" + bytes(7),
        "with spaces before": b" COREWATCH",
        "with NUL and a rest": b"COREWATCH\0rest",
        "of another entity": b"OTHER",
        "in lower case": b"corewatch",
        "of spaces": b" " * 16,
        "of NUL": bytes(16),
    }.items():
        yield f"called title {name}", associate_rq(BOTH, called=title)
    for place, name in ((1, "header"), (8, "after the version"), (42, "after the titles"), (73, "last of 32")):
        changed = bytearray(REQUEST)
        changed[place] = 0xFF
        yield f"reserved byte {name} not zero", bytes(changed)


def with_items(
    application: bytes = item(0x10, b"1.2.840.10008.3.1.1.1"), contexts: bytes = BOTH, user: bytes = item(0x50, USER)
) -> bytes:
    """An A-ASSOCIATE-RQ of these items."""
    return pdu(1, REQUEST[6:74] + application + contexts + user)


def application_contexts() -> Iterator[tuple[str, bytes]]:
    """The application context item, and the order of items."""
    known = item(0x10, b"1.2.840.10008.3.1.1.1")
    yield "application context missing", with_items(b"")
    yield "application context empty", with_items(item(0x10, b""))
    yield "application context unknown", with_items(item(0x10, b"1.2.3"))
    yield "application context twice", with_items(known + known)
    yield "application context padded with NUL", with_items(item(0x10, b"1.2.840.10008.3.1.1.1\0"))
    yield "application context padded with a space", with_items(item(0x10, b"1.2.840.10008.3.1.1.1 "))
    yield "application context of 65 characters", with_items(item(0x10, b"1." * 32 + b"1"))
    yield "application context after the others", pdu(1, REQUEST[6:74] + BOTH + item(0x50, USER) + known)
    yield "user information before the contexts", pdu(1, REQUEST[6:74] + known + item(0x50, USER) + BOTH)


def presentation_contexts() -> Iterator[tuple[str, bytes]]:
    """Presentation context items and their sub-items."""
    implicit, explicit, big = ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian
    for count in (0, 1, 2, 64, 127, 128):
        yield f"{count} contexts", associate_rq(b"".join(context(2 * n + 1, VERIFICATION, [implicit]) for n in range(count)))
    for count in (129, 200, 1000):
        several = b"".join(context((2 * n + 1) % 256, VERIFICATION, [implicit]) for n in range(count))
        yield f"{count} contexts, IDs used again", associate_rq(several)
    for number in (0, 2, 254, 255):
        yield f"context ID {number}", associate_rq(context(number, VERIFICATION, [implicit]))
    yield "context IDs falling", associate_rq(context(5, VERIFICATION, [implicit]) + context(1))
    yield "context ID twice", associate_rq(context(1, VERIFICATION, [implicit]) + context(1))
    for name, syntaxes in {
        "both, implicit first": [implicit, explicit],
        "both, explicit first": [explicit, implicit],
        "big endian only": [big],
        "unknown": ["1.2.3.4"],
        "unknown and known": ["1.2.3.4", implicit],
        "known twice": [implicit, implicit],
        "none": [],
        "empty and known": ["", implicit],
        "padded with NUL": [implicit + "\0"],
        "padded with a space": [implicit + " "],
        "of 65 characters and known": ["1." * 32 + "1", implicit],
        "40 unknown and known": [*(f"1.2.3.{n}" for n in range(40)), implicit],
    }.items():
        yield f"transfer syntax {name}", associate_rq(context(1, VERIFICATION, syntaxes))
    for name, sop_class in {
        "unknown": "1.2.3.4.5",
        "empty": "",
        "padded with NUL": VERIFICATION + "\0",
        "padded with a space": VERIFICATION + " ",
        "of 65 characters": "1." * 32 + "1",
        "not a UID": "../../x",
    }.items():
        yield f"abstract syntax {name}", associate_rq(context(1, sop_class, [implicit]))
    abstract, transfer = item(0x30, VERIFICATION.encode()), item(0x40, implicit.encode())
    head = bytes((1, 0, 0, 0))
    for name, content in {
        "without abstract syntax": head + transfer,
        "with two abstract syntaxes": head + abstract + item(0x30, CTImageStorage.encode()) + transfer,
        "with the transfer syntax first": head + transfer + abstract,
        "with an unknown sub-item": head + abstract + item(0x77, b"?") + transfer,
        "with reserved bytes": bytes((1, 9, 9, 9)) + abstract + transfer,
        "empty": b"",
        "of three bytes": head[:3],
        "of its head only": head,
        "whose sub-item is too long": head + abstract + item(0x40, implicit.encode(), length=500),
        "whose sub-item is cut in its head": head + abstract + transfer + b"\x40\0",
    }.items():
        yield f"context {name}", associate_rq(item(0x20, content))
    yield "context item too long", associate_rq(item(0x20, head + abstract + transfer, length=5000))
    yield "context of an answer", associate_rq(item(0x21, head + transfer))


def user_information() -> Iterator[tuple[str, bytes]]:
    """User information and its sub-items (PS3.8 D.1, PS3.7 D.3.3)."""
    length, name = item(0x51, struct.pack(">L", MAX_PDU)), item(0x52, b"1.2.3.4")
    yield "user information missing", with_items(user=b"")
    yield "user information empty", with_items(user=item(0x50, b""))
    yield "user information twice", with_items(user=item(0x50, USER) * 2)
    yield "user information too long", with_items(user=item(0x50, USER, length=5000))
    yield "user information cut in a head", associate_rq(BOTH, USER + b"\x55\0")
    yield "sub-item too long", associate_rq(BOTH, USER + item(0x55, b"NAME", length=500))
    for size in (0, 1, 7, 8, 13, 128, 4096, ENDLESS):
        yield f"maximum length {size}", associate_rq(BOTH, item(0x51, struct.pack(">L", size)) + name)
    yield "maximum length missing", associate_rq(BOTH, name)
    yield "maximum length twice", associate_rq(BOTH, length + length + name)
    for size in (0, 2, 8):
        yield f"maximum length in {size} bytes", associate_rq(BOTH, item(0x51, bytes(size)) + name)
    yield "implementation class missing", associate_rq(BOTH, length)
    for label, value in {"empty": b"", "padded": b"1.2.3\0", "of 65 characters": b"1." * 32 + b"1", "not a UID": b"x"}.items():
        yield f"implementation class {label}", associate_rq(BOTH, length + item(0x52, value))
    for label, value in {"": b"NAME", "empty": b"", "of 17 characters": b"N" * 17, "of control characters": b"\x1b[1m"}.items():
        yield f"version name {label}".strip(), associate_rq(BOTH, USER + item(0x55, value))
    for window in ((1, 1), (0, 0), (3, 2)):
        yield f"asynchronous window {window}", associate_rq(BOTH, USER + item(0x53, struct.pack(">HH", *window)))
    yield "asynchronous window of 2 bytes", associate_rq(BOTH, USER + item(0x53, bytes(2)))
    for label, role in {
        "SCU": _role(CTImageStorage, 1, 0),
        "SCP": _role(CTImageStorage, 0, 1),
        "both": _role(CTImageStorage, 1, 1),
        "neither": _role(CTImageStorage, 0, 0),
        "of a class not proposed": _role("1.2.3", 1, 1),
        "twice": _role(CTImageStorage, 1, 0) * 2,
        "with values above 1": _role(CTImageStorage, 9, 0),
        "with a length that lies": item(0x54, b"\xff\xff1.2\1\1"),
        "of one byte": item(0x54, b"\0"),
    }.items():
        yield f"role {label}", associate_rq(BOTH, USER + role)
    uid = struct.pack(">H", len(CTImageStorage)) + CTImageStorage.encode()
    yield "extended negotiation", associate_rq(BOTH, USER + item(0x56, uid + b"\2\0\3\0\1\0"))
    yield "extended negotiation that lies", associate_rq(BOTH, USER + item(0x56, b"\xff\xff1.2"))
    yield "common extended negotiation", associate_rq(BOTH, USER + item(0x57, uid + struct.pack(">H", 3) + b"1.2" + bytes(2)))
    for kind in (1, 2, 3, 4, 5, 0, 200):
        for wanted in (0, 1):
            identity = bytes((kind, wanted)) + struct.pack(">H", 3) + b"abc" + struct.pack(">H", 2 if kind == 2 else 0)
            yield f"user identity {kind}, answer {wanted}", associate_rq(BOTH, USER + item(0x58, identity + b"pw" * (kind == 2)))
    yield "user identity that lies", associate_rq(BOTH, USER + item(0x58, b"\1\0\xff\xffabc"))
    yield "user identity empty", associate_rq(BOTH, USER + item(0x58, b""))
    for kind in (0x00, 0x50, 0x59, 0x5A, 0x77, 0xFF):
        yield f"unknown sub-item {kind:02X}", associate_rq(BOTH, USER + item(kind, b"??"))


def _role(sop_class: str, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes((scu, scp)))


def framing() -> Iterator[tuple[str, bytes]]:
    """Unknown items, and lengths that are wrong, in an A-ASSOCIATE-RQ."""
    for kind in (0x00, 0x11, 0x22, 0x51, 0x60, 0xFF):
        yield f"unknown item {kind:02X}", associate_rq(item(kind, b"??") + BOTH)
    for size in (0, 1, 5, 6, 7, 40, 73, 74, 78, 100, 150, len(REQUEST) - 1):
        yield f"request ends after {size} bytes", REQUEST[:size]
    for size in (0, 1, 67, 68, 70, 100):
        yield f"request of {size} bytes", pdu(1, REQUEST[6 : 6 + size])
    yield "request longer than its items", pdu(1, REQUEST[6:] + b"\0\0")
    for length in (0x00100001, 0x7FFFFFFF, ENDLESS):
        yield f"request of length {length:X}", pdu(1, REQUEST[6:], length=length)
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "TLS", bytes.fromhex("160301020001000001fc0303") + bytes(505)
