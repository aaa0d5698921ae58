"""C-STORE response statuses (PS3.4 Table B.2-1), each with advice for the operator of the sender.

Codes that the table does not list by themselves lie in its ranges A7xx, A9xx and Cxxx.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_listener.services import Response


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """A status of a C-STORE response.

    Attributes
    ----------
    code
        Status (0000,0900).
    comment
        Error Comment (0000,0902), LO: at most 64 characters, free of patient data. Empty for success.
    advice
        What the operator of the sender should do.
    """

    code: int
    comment: str
    advice: str

    @property
    def success(self) -> bool:
        """Whether the instance is durable here, so that the sender may delete it."""
        return self.code == 0x0000

    def response(self) -> Response:
        """As the response to a C-STORE-RQ."""
        return Response(self.code, self.comment)


SUCCESS = StorageStatus(0x0000, "", "Nothing: the instance is on disk under its final name and survives a power loss.")
OUT_OF_RESOURCES = StorageStatus(
    0xA700,
    "out of resources: disk full or not writable",
    "Keep the instance and send it again later (most senders do so by themselves). Tell the operator of corewatch that its disk is "
    "full or cannot be written.",
)
TOO_LARGE = StorageStatus(
    0xA702,
    "out of resources: larger than listener.max_instance_mib",
    "Do not send it again unchanged: the instance is larger than the operator of corewatch allows.",
)
WRONG_SOP_CLASS = StorageStatus(
    0xA900,
    "SOP class of the data set is not that of the request",
    "Do not send it again unchanged: its SOP Class UID (0008,0016) contradicts the C-STORE request. Check the system that created "
    "or changed it.",
)
NO_UID = StorageStatus(
    0xC000,
    "SOP Instance UID or SOP Class UID missing or malformed",
    "Do not send it again unchanged: the request or the instance lacks a valid (0008,0016) or (0008,0018).",
)
WRONG_SOP_INSTANCE = StorageStatus(
    0xC001,
    "SOP instance UID of the data set is not that of the request",
    "Do not send it again unchanged: its SOP Instance UID (0008,0018) contradicts the C-STORE request.",
)
NOT_DICOM = StorageStatus(
    0xC210,
    "data set cannot be read in the negotiated transfer syntax",
    "Do not send it again unchanged: it is damaged, or not encoded in the transfer syntax of its presentation context.",
)
INTERNAL_ERROR = StorageStatus(
    0xC211,
    "the receiver failed; see its log",
    "Keep the instance. Tell the operator of corewatch, whose log holds the cause.",
)

ALL = (SUCCESS, OUT_OF_RESOURCES, TOO_LARGE, WRONG_SOP_CLASS, NO_UID, WRONG_SOP_INSTANCE, NOT_DICOM, INTERNAL_ERROR)
"""Every status that this SCP returns."""
