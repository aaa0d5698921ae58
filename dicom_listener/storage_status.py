"""Answers to a C-STORE, PS3.4 Table B.2-1 (C-STORE Response Status Values); codes ending in digits of ours stay in its ranges.

The sender's operator reads our status, so each says what to do there.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_listener.services import Response


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """One answer.

    Attributes
    ----------
    code
        Status (0000,0900).
    comment
        Error Comment (0000,0902), LO: at most 64 characters, free of patient data. Empty for success.
    advice
        What the sender's operator should do.
    """

    code: int
    comment: str
    advice: str

    @property
    def success(self) -> bool:
        """Whether the sender may forget the image: it is durable here."""
        return self.code == 0x0000

    def reply(self) -> Response:
        """As the answer to a C-STORE."""
        return Response(self.code, self.comment)


SUCCESS = StorageStatus(0x0000, "", "Nothing: the image is on disk under its final name and survives a power loss.")
OUT_OF_RESOURCES = StorageStatus(
    0xA700,
    "out of resources: disk full or not writable",
    "Keep the image and send again later (most senders do so by themselves). Tell the operator of corewatch: its disk is full or "
    "cannot be written.",
)
TOO_LARGE = StorageStatus(
    0xA702,
    "out of resources: larger than listener.max_instance_mib",
    "Do not send again unchanged: the object is larger than the operator of corewatch allows.",
)
WRONG_SOP_CLASS = StorageStatus(
    0xA900,
    "SOP class of the data set is not that of the request",
    "Do not send again unchanged: the object's SOP Class UID (0008,0016) contradicts the C-STORE request. Look at the system that "
    "made or changed it.",
)
NO_UID = StorageStatus(
    0xC000,
    "SOP Instance UID or SOP Class UID missing or malformed",
    "Do not send again unchanged: the request or the object lacks a proper (0008,0016) or (0008,0018).",
)
WRONG_SOP_INSTANCE = StorageStatus(
    0xC001,
    "SOP instance UID of the data set is not that of the request",
    "Do not send again unchanged: the object's SOP Instance UID (0008,0018) contradicts the C-STORE request.",
)
NOT_DICOM = StorageStatus(
    0xC210,
    "data set cannot be read in the negotiated transfer syntax",
    "Do not send again unchanged: the object is damaged, or encoded otherwise than its presentation context says.",
)
INTERNAL_ERROR = StorageStatus(
    0xC211,
    "the receiver failed; see its log",
    "Keep the image; tell the operator of corewatch, whose log holds the cause.",
)

ALL = (SUCCESS, OUT_OF_RESOURCES, TOO_LARGE, WRONG_SOP_CLASS, NO_UID, WRONG_SOP_INSTANCE, NOT_DICOM, INTERNAL_ERROR)
"""Every answer that a C-STORE can get here."""
