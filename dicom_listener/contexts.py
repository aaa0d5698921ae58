"""Presentation contexts that the listener accepts: SOP classes and transfer syntaxes.

CT objects, which are analysed, are accepted in transfer syntaxes that corewatch can decode; when a context is refused, a PACS sends
the instance uncompressed instead. Everything else that is routed along with a study is accepted in any encoding, so that its sender
gets success. It is never decoded, and its case ends `not_analysed` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydicom import uid
from pynetdicom import AllStoragePresentationContexts

from corewatch.dicom_uids import CT_SOP_CLASSES
from dicom_listener.negotiation import Offer

DECODABLE: Mapping[str, str] = MappingProxyType(
    {
        uid.ExplicitVRLittleEndian: "uncompressed",
        uid.ImplicitVRLittleEndian: "uncompressed; the one that every DICOM system offers (PS3.5 10.1)",
        uid.DeflatedExplicitVRLittleEndian: "the data set deflated as a whole",
        uid.ExplicitVRBigEndian: "retired, still met in old archives",
        uid.JPEGLosslessSV1: "the usual lossless compression of CT archives",
        uid.JPEGLossless: "lossless with another predictor",
        uid.JPEGLSLossless: "lossless",
        uid.JPEG2000Lossless: "lossless",
        uid.HTJ2KLossless: "lossless",
        uid.HTJ2KLosslessRPCL: "lossless",
        uid.RLELossless: "lossless",
        uid.JPEGLSNearLossless: "lossy; the archive may hold nothing better",
        uid.JPEG2000: "lossless or lossy",
        uid.HTJ2K: "lossless or lossy",
        uid.JPEGExtended12Bit: "lossy, 12 bit",
        "1.2.840.10008.1.2.4.53": "JPEG Spectral Selection (Process 6 and 8): retired, lossy, 12 bit",
        "1.2.840.10008.1.2.4.55": "JPEG Full Progression (Process 10 and 12): retired, lossy, 12 bit",
        uid.JPEGBaseline8Bit: "lossy, 8 bit: screen captures mostly",
    }
)
"""Transfer syntaxes of objects that are analysed, best first: the first one that a sender proposes in a context is accepted.

The same set as `conversion.headers.supported_transfer_syntaxes` finds decoders for (a test compares them); kept here in order of
preference, and so that the listener starts without loading decoders."""

_STREAMED = ("1.2.840.10008.1.2.7.", "1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205")
ANY_ENCODING: tuple[str, ...] = (
    *DECODABLE,
    *(t for t in uid.AllTransferSyntaxes if t not in DECODABLE and not t.startswith(_STREAMED)),
)
"""For objects that are never decoded: also video, but not syntaxes whose pixel data lies elsewhere (JPIP, SMPTE ST 2110)."""

EXTRA_SOP_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "1.3.12.2.1107.5.9.1": "SiemensCSANonImageStorage",
        "1.2.840.10008.5.1.4.1.1.3": "UltrasoundMultiFrameImageStorageRetired",
        "1.2.840.10008.5.1.4.1.1.5": "NuclearMedicineImageStorageRetired",
        "1.2.840.10008.5.1.4.1.1.6": "UltrasoundImageStorageRetired",
        "1.2.840.10008.5.1.4.1.1.8": "StandaloneOverlayStorage",
        "1.2.840.10008.5.1.4.1.1.9": "StandaloneCurveStorage",
        "1.2.840.10008.5.1.4.1.1.10": "StandaloneModalityLUTStorage",
        "1.2.840.10008.5.1.4.1.1.11": "StandaloneVOILUTStorage",
    }
)
"""Private and retired objects that archives route along with CT studies; pynetdicom has only those of the current standard."""


def storage_offers() -> tuple[Offer, ...]:
    """Every storage SOP class, each with its transfer syntaxes in order of preference."""
    classes = [str(c.abstract_syntax) for c in AllStoragePresentationContexts] + list(EXTRA_SOP_CLASSES)
    return tuple(Offer(c, tuple(DECODABLE if c in CT_SOP_CLASSES else ANY_ENCODING)) for c in classes)
