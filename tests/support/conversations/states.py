"""Every PDU in every state in which an acceptor waits for one, and silence."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.conversations.base import DATA_SET, ECHO, ENDLESS, REJECTED, RELEASE, REQUEST, sent, store
from tests.support.wire import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, DATA, RELEASE_RP, RELEASE_RQ, pdu

PDUS = {
    "A-ASSOCIATE-RQ": REQUEST,
    "A-ASSOCIATE-AC": pdu(ASSOCIATE_AC, REQUEST[6:74]),
    "A-ASSOCIATE-RJ": pdu(ASSOCIATE_RJ, b"\0\1\1\1"),
    "P-DATA-TF": sent(ECHO),
    "A-RELEASE-RQ": RELEASE,
    "A-RELEASE-RP": pdu(RELEASE_RP, bytes(4)),
    "A-ABORT": pdu(ABORT, bytes(4)),
    "A-ABORT of the provider": pdu(ABORT, bytes((0, 0, 2, 2))),
    "A-ABORT with unknown codes": pdu(ABORT, bytes((9, 9, 9, 9))),
    "PDU 00": pdu(0, bytes(4)),
    "PDU 08": pdu(8, bytes(4)),
    "PDU FF": pdu(0xFF, bytes(4)),
    "A-RELEASE-RQ without a body": pdu(RELEASE_RQ, b""),
    "A-RELEASE-RQ of ten bytes": pdu(RELEASE_RQ, bytes(10)),
    "A-RELEASE-RQ with reserved bytes": pdu(RELEASE_RQ, b"\xff" * 4),
    "A-ABORT without a body": pdu(ABORT, b""),
    "A-ABORT of ten bytes": pdu(ABORT, bytes(10)),
    "P-DATA-TF without a PDV": pdu(DATA, b""),
    "P-DATA-TF of length FFFFFFFF": pdu(DATA, b"", length=ENDLESS),
    "half a head": b"\5\0\0",
    "half an A-RELEASE-RQ": RELEASE[:8],
}
STATES: dict[str, tuple[bytes, ...]] = {
    "Sta2": (),
    "Sta6": (REQUEST,),
    "Sta6 within a command": (REQUEST, sent(ECHO) + sent(ECHO[:10], last=False)),
    "Sta6 within a data set": (
        REQUEST,
        sent(ECHO) + sent(store(), number=3) + sent(DATA_SET[:64], is_command=False, last=False, number=3),
    ),
    "Sta13 after a rejection": (REJECTED,),
    "Sta13 after a release": (REQUEST, RELEASE),
    "Sta13 after an abort": (REQUEST, REQUEST),
}


def pdus_by_state() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Every PDU in every state in which an acceptor waits for one."""
    for state, steps in STATES.items():
        for name, sent_pdu in PDUS.items():
            yield f"{state}: {name}", (*steps, sent_pdu)
    yield "Sta6: abort, and then everything else", (REQUEST, b"".join(PDUS[n] for n in ("A-ABORT", "P-DATA-TF", "A-RELEASE-RQ")))
    yield "Sta6: release, and then a message", (REQUEST, RELEASE + sent(ECHO) + RELEASE)
    yield "Sta2: request and message at once", (REQUEST + sent(ECHO) + RELEASE,)
    yield "Sta2: request twice at once", (REQUEST + REQUEST,)
    yield "Sta2: request and release at once", (REQUEST + RELEASE,)
    yield "Sta2: request and abort at once", (REQUEST + PDUS["A-ABORT"],)
