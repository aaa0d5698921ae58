"""P-DATA-TF PDUs and command sets on an established association, right and wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pydicom.uid import CTImageStorage

from tests.support.conversations.base import DATA_SET, ECHO, ENDLESS, MAX_PDU, RELEASE, VERIFICATION, dimse, pieces, sent, store
from tests.support.wire import DATA, command, pdu, pdv

STORE = sent(store(), number=3)
IMAGE = sent(DATA_SET, is_command=False, number=3)


def messages() -> Iterator[tuple[str, bytes]]:
    """P-DATA-TF after an association was accepted: fragments, PDVs, interleaving, command sets."""
    for size in (1, 2, 7, 64):
        parts = pieces(ECHO, size, is_command=True, number=1)
        yield f"C-ECHO in pieces of {size}, a PDU each", b"".join(pdu(DATA, part) for part in parts) + RELEASE
        yield f"C-ECHO in pieces of {size}, one PDU", pdu(DATA, b"".join(parts)) + RELEASE
    for size in (2, 64, 400, 4000):
        parts = pieces(DATA_SET, size, is_command=False, number=3)
        yield f"C-STORE in pieces of {size}, a PDU each", STORE + b"".join(pdu(DATA, p) for p in parts) + RELEASE
    image = pdv(DATA_SET, 2, 3)
    yield "C-STORE and C-ECHO in one PDU", pdu(DATA, pdv(store(), 3, 3) + image + pdv(ECHO, 3)) + RELEASE
    yield "two C-ECHO in one PDU", pdu(DATA, pdv(ECHO, 3) * 2) + RELEASE
    yield "ten C-ECHO in a row", sent(ECHO) * 10 + RELEASE
    yield "fragment without a byte first", pdu(DATA, pdv(b"", 1) + pdv(ECHO, 3)) + RELEASE
    yield "fragment without a byte last", pdu(DATA, pdv(ECHO, 1) + pdv(b"", 3)) + RELEASE
    empty_end = sent(b"", is_command=False, number=3)
    yield (
        "data set ends with a fragment without a byte",
        STORE + sent(DATA_SET, is_command=False, last=False, number=3) + empty_end + RELEASE,
    )
    yield "C-STORE in one PDU", pdu(DATA, pdv(store(), 3, 3) + image) + RELEASE
    yield "command of another context within a command", pdu(DATA, pdv(ECHO[:20], 1, 1) + pdv(store(), 3, 3)) + RELEASE
    yield "command ends on another context", pdu(DATA, pdv(ECHO[:20], 1, 1) + pdv(ECHO[20:], 3, 3)) + RELEASE
    yield "data set on another context", pdu(DATA, pdv(store(), 3, 3) + pdv(DATA_SET, 2, 1)) + RELEASE
    yield (
        "data set ends on another context",
        pdu(DATA, pdv(store(), 3, 3) + pdv(DATA_SET[:64], 0, 3) + pdv(DATA_SET[64:], 2, 1)) + RELEASE,
    )
    yield "command within a data set", pdu(DATA, pdv(store(), 3, 3) + pdv(DATA_SET[:64], 0, 3) + pdv(ECHO, 3)) + RELEASE
    yield "data set within a command", pdu(DATA, pdv(store()[:20], 1, 3) + pdv(DATA_SET, 2, 3)) + RELEASE
    yield "data set without a command", pdu(DATA, image) + RELEASE
    yield "C-STORE on the context of Verification", pdu(DATA, pdv(store(), 3, 1) + pdv(DATA_SET, 2, 1)) + RELEASE
    for number in (0, 2, 5, 255):
        yield f"PDV of context {number}", sent(ECHO, number=number) + RELEASE
    for bits in (0x04, 0x80, 0xFC):
        yield f"PDV with reserved bits {bits:02X}", pdu(DATA, pdv(ECHO, 3 | bits)) + RELEASE
    for length in (0, 1, 2, len(ECHO) + 1, len(ECHO) + 3, 0x7FFFFFFF, ENDLESS):
        yield f"PDV of length {length:X}", pdu(DATA, pdv(ECHO, 3, length=length)) + RELEASE
    yield "PDV cut in its head", pdu(DATA, pdv(ECHO, 3) + b"\0\0\0") + RELEASE
    for size in (MAX_PDU - 1, MAX_PDU, MAX_PDU + 1, MAX_PDU + 2, 2 * MAX_PDU, 140_000):
        fill = pdv(store(), 3, 3)
        yield (
            f"P-DATA-TF of {size} bytes",
            pdu(DATA, fill + pdv(DATA_SET + bytes(size - len(fill) - 6 - len(DATA_SET)), 0, 3)) + RELEASE,
        )


def commands() -> Iterator[tuple[str, bytes]]:
    """Command sets (PS3.7 6.3, 9.3, Annex E)."""
    for number in (0, 1, 0xFFFF):
        yield f"message ID {number}", sent(dimse(0x30, VERIFICATION, message=number)) + RELEASE
    yield "without group length", sent(dimse(0x30, VERIFICATION, length=False)) + RELEASE
    yield "group length that lies", sent(command({0: b"\xff\xff\0\0"}) + ECHO[12:]) + RELEASE
    for tag, name in ((0x0002, "SOP class"), (0x0100, "command field"), (0x0110, "message ID"), (0x0800, "data set type")):
        left = {n: v for n, v in _elements(ECHO).items() if n not in (0, tag)}
        yield f"without {name}", sent(command({0: struct.pack("<L", len(command(left))), **left})) + RELEASE
    for field in (0x0010, 0x0020, 0x0021, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150, 0x0055, 0x0FFF, 0x8030, 0x8001):
        yield f"command field {field:04X}", sent(dimse(field, VERIFICATION, (0x0120, b"\7\0"), (0x0900, b"\0\0"))) + RELEASE
    yield "C-ECHO of another SOP class", sent(dimse(0x30, CTImageStorage)) + RELEASE
    yield "C-ECHO with a data set", sent(dimse(0x30, VERIFICATION, data_set=True)) + sent(b"\0" * 8, is_command=False) + RELEASE
    yield "unknown element", sent(dimse(0x30, VERIFICATION, (0x5555, b"??"))) + RELEASE
    yield "element longer than its set", sent(ECHO[:-4] + b"\xff\xff\xff\x7f") + RELEASE
    yield "command of no element", sent(b"") + RELEASE
    yield "command of three bytes", sent(b"\0\0\0") + RELEASE
    yield "command of 70,000 bytes", b"".join(sent(bytes(10_000), last=False) for _ in range(7)) + RELEASE
    yield "C-STORE without a data set", sent(dimse(1, CTImageStorage, (0x0700, b"\0\0"), (0x1000, b"1.2\0")), number=3) + RELEASE
    yield (
        "C-STORE without priority",
        sent(_without(store(), 0x0700), number=3) + IMAGE + RELEASE,
    )
    yield (
        "C-STORE without instance",
        sent(_without(store(), 0x1000), number=3) + IMAGE + RELEASE,
    )
    yield (
        "C-STORE of an unknown SOP class",
        sent(store(sop_class="1.2.3"), number=3) + IMAGE + RELEASE,
    )
    yield "C-STORE of 0 bytes", STORE + sent(b"", is_command=False, number=3) + RELEASE


def _elements(command_set: bytes) -> dict[int, bytes]:
    found, position = {}, 0
    while position < len(command_set):
        _, number, length = struct.unpack_from("<HHL", command_set, position)
        found[number] = command_set[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def _without(command_set: bytes, tag: int) -> bytes:
    left = {n: v for n, v in _elements(command_set).items() if n not in (0, tag)}
    body = command(left)
    return command({0: struct.pack("<L", len(body))}) + body
