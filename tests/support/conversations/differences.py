"""Where our listener and DCMTK's storescp (3.6.7) answer a conversation differently, and the clause that says who is right.

The words are those of `tests.support.conformance`: `AC 1=ILE` accepts context 1 with Implicit VR Little Endian, `RJ 1/1/7` and
`ABORT 2/6` carry result, source and reason, `RSP 8030 0000` is a response with command field and status, `RP` an A-RELEASE-RP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Answers = tuple[str, str]
"""Ours and storescp's."""
OURS, DCMTK, BOTH_MAY = "ours", "storescp", "both"


@dataclass(frozen=True)
class Difference:
    """One reason for a difference, and the conversations that show it.

    Attributes
    ----------
    right
        Who follows the clause; `BOTH_MAY`: it leaves the choice, or says nothing.
    """

    right: str
    clause: str
    why: str
    conversations: Mapping[Answers, tuple[str, ...]]


AC = "AC 1=ILE 3=ELE"
ACCEPTED = f"{AC}, RP"
ABORTED = f"{AC}, ABORT 0/0"
ECHO = f"{AC}, RSP 8030 0000"
NO_DATA_PDU = ("P-DATA-TF without a PDV", "P-DATA-TF of length FFFFFFFF")
UNKNOWN = ("PDU 00", "PDU 08", "PDU FF")


def _in(state: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{state}: {name}" for name in names)


DIFFERENCES = (
    Difference(
        OURS,
        "PS3.8 Table 9-10, Evt19 in Sta2: AA-1",
        "An A-ASSOCIATE-RQ whose lengths contradict each other, or that lacks a mandatory item, is answered with A-ABORT; storescp "
        "sends nothing and leaves the connection open.",
        {
            ("ABORT 0/0", "left open"): (
                "0 contexts",
                "context empty",
                "context of three bytes",
                "context whose sub-item is too long",
                "context whose sub-item is cut in its head",
                "context item too long",
                "user information too long",
                "user information cut in a head",
                "sub-item too long",
                "role with a length that lies",
                "role of one byte",
                *(f"request of {size} bytes" for size in (0, 1, 67, 68, 70, 100)),
                "request longer than its items",
            ),
            ("ABORT 0/0", "AC 1=refused 3, RP"): ("context of an answer",),
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-10, Evt19 in Sta2: AA-1",
        "What is no PDU at all is answered with A-ABORT before the connection is closed.",
        {
            ("ABORT 0/0", "nothing"): (
                *(f"request of length {length}" for length in ("100001", "7FFFFFFF", "FFFFFFFF")),
                "HTTP",
                "TLS",
                *_in("Sta2", *UNKNOWN, "P-DATA-TF of length FFFFFFFF"),
            )
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-10, Evt17 in Sta2: AA-5; Evt18 in Sta2: AA-2",
        "A request that ends halfway, or stays away, ends with the connection; storescp leaves its side open.",
        {
            ("nothing", "left open"): (
                *(f"request ends after {size} bytes" for size in (6, 7, 40, 73, 74, 78, 100, 150, 231)),
                "Sta2: silence within a request",
            )
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-10, Evt17: AA-4, AA-5",
        "A connection that the peer closes within a PDU is at its end; storescp sends an A-ABORT into it.",
        {
            ("nothing", "ABORT 0/0"): ("Sta2: half an A-RELEASE-RQ",),
            (AC, ABORTED): ("Sta6: half an A-RELEASE-RQ",),
            (ECHO, f"{ECHO}, ABORT 0/0"): (
                "Sta6 within a command: half an A-RELEASE-RQ",
                "Sta6 within a data set: half an A-RELEASE-RQ",
            ),
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-10, Evt19 in Sta6: AA-8; Table 9-26",
        "An invalid PDU on an association is for the service provider to abort, with source 2 and a reason; storescp aborts as the "
        "service user.",
        {
            (f"{AC}, ABORT 2/6", ABORTED): (
                *_in("Sta6", *NO_DATA_PDU),
                *(f"PDV of context {number}" for number in (0, 2, 5, 255)),
                *(f"PDV of length {length}" for length in ("0", "1", "2", "45", "47", "7FFFFFFF", "FFFFFFFF")),
                "PDV cut in its head",
                *(f"P-DATA-TF of {size} bytes" for size in (16385, 16386, 32768, 140000)),
            ),
            (f"{ECHO}, ABORT 2/6", f"{ECHO}, ABORT 0/0"): (
                *_in("Sta6 within a command", *NO_DATA_PDU),
                *_in("Sta6 within a data set", *NO_DATA_PDU),
            ),
            (f"{AC}, ABORT 2/1", ABORTED): _in("Sta6", *UNKNOWN),
            (f"{ECHO}, ABORT 2/1", f"{ECHO}, ABORT 0/0"): (
                *_in("Sta6 within a command", *UNKNOWN),
                *_in("Sta6 within a data set", *UNKNOWN),
            ),
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-10, Sta13: AA-7",
        "Until the peer closes the connection, a new request or an invalid PDU is answered with A-ABORT; storescp has stopped "
        "reading.",
        {
            ("RJ 1/1/2, ABORT 2/1", "RJ 1/1/2"): _in("Sta13 after a rejection", *UNKNOWN),
            ("RJ 1/1/2, ABORT 2/2", "RJ 1/1/2"): ("Sta13 after a rejection: A-ASSOCIATE-RQ",),
            ("RJ 1/1/2, ABORT 2/6", "RJ 1/1/2"): ("Sta13 after a rejection: P-DATA-TF of length FFFFFFFF",),
            (f"{ACCEPTED}, ABORT 2/1", ACCEPTED): _in("Sta13 after a release", *UNKNOWN),
            (f"{ACCEPTED}, ABORT 2/2", ACCEPTED): ("Sta13 after a release: A-ASSOCIATE-RQ",),
            (f"{ACCEPTED}, ABORT 2/6", ACCEPTED): ("Sta13 after a release: P-DATA-TF of length FFFFFFFF",),
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-10, Evt18 in Sta13: AA-2",
        "A peer that does not close the connection after the last PDU has it closed by the ARTIM timer.",
        {
            ("RJ 1/1/2", "RJ 1/1/2, left open"): ("Sta13 after a rejection: silence",),
            (ACCEPTED, f"{ACCEPTED}, left open"): ("Sta13 after a release: silence",),
        },
    ),
    Difference(
        BOTH_MAY,
        "PS3.8 9.1.5: the ARTIM timer does not cover an established association",
        "How long an association may be idle is a local matter: ours ends by listener.idle_timeout_s, storescp waits without end.",
        {
            (ABORTED, f"{AC}, left open"): ("Sta6: silence", "Sta6: silence within a PDU"),
            (f"{ECHO}, ABORT 0/0", f"{ECHO}, left open"): ("Sta6 within a command: silence", "Sta6 within a data set: silence"),
        },
    ),
    Difference(
        OURS,
        "PS3.8 9.3.2 (called and calling AE title: 16 spaces shall not be used), Table 9-21",
        "A title of nothing is rejected with its reason; storescp leaves the connection open.",
        {
            ("RJ 1/1/3", "left open"): ("calling title of spaces", "calling title of NUL"),
            ("RJ 1/1/7", "left open"): ("called title of spaces", "called title of NUL"),
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-21, source 1 reason 7",
        "The called title has to be ours; storescp takes any.",
        {("RJ 1/1/7", ACCEPTED): ("called title of another entity", "called title in lower case")},
    ),
    Difference(
        OURS,
        "PS3.5 6.2 (AE), PS3.8 Table 9-26 reason 6",
        "An AE title holds no control characters.",
        {("ABORT 0/0", ACCEPTED): ("calling title with a line feed", "calling title with an escape")},
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-21, source 1 reason 2",
        "An application context name that is not known is a reason to reject, of whatever length it is.",
        {("RJ 1/1/2", "left open"): ("application context of 65 characters",)},
    ),
    Difference(
        DCMTK,
        "PS3.8 Annex F: a UID in a PDU has no padding",
        "UIDs that a sender pads with a space are read without it, on purpose: such senders exist, and no other UID is meant.",
        {
            (ACCEPTED, "RJ 1/1/2"): ("application context padded with a space",),
            ("AC 1=ILE, RP", "AC 1=refused 4, RP"): ("transfer syntax padded with a space",),
            ("AC 1=ILE, RP", "AC 1=refused 3, RP"): ("abstract syntax padded with a space",),
        },
    ),
    Difference(
        OURS,
        "PS3.8 9.3.2.2: presentation context IDs are odd and used once",
        "A request that breaks this is invalid; storescp accepts it.",
        {
            ("ABORT 0/0", "AC 128 contexts, RP"): tuple(f"{count} contexts, IDs used again" for count in (129, 200, 1000)),
            ("ABORT 0/0", "AC 0=ILE, RP"): ("context ID 0",),
            ("ABORT 0/0", "AC 2=ILE, RP"): ("context ID 2",),
            ("ABORT 0/0", "AC 254=ILE, RP"): ("context ID 254",),
            ("ABORT 0/0", "AC 1=ELE, RP"): ("context ID twice",),
        },
    ),
    Difference(
        BOTH_MAY,
        "PS3.8 9.3.3.2: the acceptor chooses one of the transfer syntaxes proposed",
        "For C-ECHO ours prefers the default transfer syntax and takes no other byte order.",
        {
            ("AC 1=ILE, RP", "AC 1=ELE, RP"): (
                "transfer syntax both, implicit first",
                "transfer syntax both, explicit first",
            ),
            ("AC 1=refused 4, RP", "AC 1=EBE, RP"): ("transfer syntax big endian only",),
        },
    ),
    Difference(
        OURS,
        "PS3.8 Table 9-18: results 3 and 4 refuse one context",
        "A context without a syntax, or with an invalid one, is refused alone; storescp leaves the connection open.",
        {
            ("AC 1=refused 3, RP", "left open"): ("abstract syntax of 65 characters", "context of its head only"),
            ("AC 1=refused 4, RP", "left open"): ("transfer syntax none",),
            ("AC 1=ILE, RP", "left open"): ("transfer syntax of 65 characters and known",),
        },
    ),
    Difference(
        OURS,
        "PS3.8 D.2: user information sub-items that are not recognised are ignored",
        "Nothing in sub-items of which ours makes no use can end an association.",
        {
            (ACCEPTED, "left open"): (
                "implementation class of 65 characters",
                "extended negotiation that lies",
                "user identity that lies",
                "user identity empty",
                "unknown sub-item 59",
            )
        },
    ),
    Difference(
        BOTH_MAY,
        "PS3.7 D.3.3.4: without an answer to a role selection item the default roles hold",
        "Ours answers role selection; storescp leaves the default.",
        {
            (f"{AC} role 10, RP", ACCEPTED): ("role SCU", "role both", "role twice", "role with values above 1"),
            (f"{AC} role 00, RP", ACCEPTED): ("role SCP", "role neither"),
        },
    ),
    Difference(
        BOTH_MAY,
        "PS3.8 D.1: the maximum length has no lower bound",
        "A peer that takes less than a PDV with two bytes cannot be answered, so that ours aborts at once.",
        {("ABORT 0/0", ACCEPTED): ("maximum length 1", "maximum length 7")},
    ),
    Difference(
        DCMTK,
        "PS3.8 E.1: every fragment has an even number of bytes, and the PDVs of a P-DATA-TF belong to one message",
        "Ours takes both, on purpose: nothing in them is ambiguous, and an abort would lose the object.",
        {
            (f"{ECHO}, RP", ABORTED): tuple(
                f"C-ECHO in pieces of {size}, {how}" for size in (1, 7) for how in ("a PDU each", "one PDU")
            ),
            (ACCEPTED, ABORTED): ("P-DATA-TF of 16383 bytes",),
            (f"{AC}, RSP 8001 0000, RSP 8030 0000, RP", f"{AC}, RSP 8001 0000, ABORT 0/0"): ("C-STORE and C-ECHO in one PDU",),
        },
    ),
    Difference(
        DCMTK,
        "PS3.7 9.3.1.1, 9.3.5.1: Priority and Affected SOP Class UID are mandatory, a C-ECHO-RQ has no data set",
        "Ours makes no use of the first, knows the second from the context, passes over the third, and answers.",
        {
            (f"{ECHO}, RP", ABORTED): ("without SOP class", "C-ECHO with a data set"),
            (f"{AC}, RSP 8001 0000, RP", ABORTED): ("C-STORE without priority",),
        },
    ),
    Difference(
        OURS,
        "PS3.7 C.5.23: unrecognized operation (0211H)",
        "What no service offers is answered with a status, and the association continues; storescp aborts it.",
        {
            (f"{AC}, RSP 8001 0211, RP", ABORTED): ("C-STORE on the context of Verification",),
            **{
                (f"{AC}, RSP 8{field:03X} 0211, RP", ABORTED): (f"command field {field:04X}",)
                for field in (0x010, 0x020, 0x021, 0x100, 0x110, 0x120, 0x130, 0x140, 0x150, 0x055)
            },
        },
    ),
    Difference(
        OURS,
        "PS3.7 9.3.2.3: a C-CANCEL-RQ has no response",
        "A cancel, or a response, for an operation that is not under way is ignored; storescp aborts.",
        {(ACCEPTED, ABORTED): ("command field 0FFF", "command field 8030", "command field 8001")},
    ),
    Difference(
        BOTH_MAY,
        "PS3.7 6.3: a command set has no upper bound",
        "Ours keeps at most 64 KiB of a command set in memory.",
        {(ABORTED, ACCEPTED): ("command of 70,000 bytes",)},
    ),
    Difference(
        OURS,
        "PS3.4 Table B.2-1: A9xx and Cxxx are failures of one C-STORE",
        "An instance that is missing, malformed or not what its command announces is refused with its status; storescp aborts the "
        "association, or answers success.",
        {
            (f"{AC}, RSP 8001 C210, RP", ABORTED): ("C-STORE without a data set",),
            (f"{AC}, RSP 8001 C000, RP", ABORTED): ("C-STORE without instance",),
            (f"{AC}, RSP 8001 A900, RP", f"{AC}, RSP 8001 0000, RP"): ("C-STORE of an unknown SOP class",),
            (f"{AC}, RSP 8001 C210, RP", f"{AC}, RSP 8001 0000, RP"): ("C-STORE of 0 bytes",),
        },
    ),
)


def explained() -> dict[str, Answers]:
    """Name of each conversation that is listed -> both answers."""
    found: dict[str, Answers] = {}
    for difference in DIFFERENCES:
        for answers, names in difference.conversations.items():
            for name in names:
                assert name not in found, f"{name} is listed twice"
                found[name] = answers
    return found
