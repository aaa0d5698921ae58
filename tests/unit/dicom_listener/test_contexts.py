from __future__ import annotations

from pydicom import uid
from pynetdicom import AllStoragePresentationContexts

from conversion.headers import supported_transfer_syntaxes
from corewatch.dicom_uids import CT_SOP_CLASSES
from dicom_listener.contexts import ANY_ENCODING, DECODABLE, EXTRA_SOP_CLASSES, storage_offers


def by_class() -> dict[str, list[str]]:
    return {offer.sop_class: list(offer.transfer_syntaxes) for offer in storage_offers()}


def test_every_storage_class_is_accepted_once() -> None:
    assert len(by_class()) == len(storage_offers())
    assert set(by_class()) == {c.abstract_syntax for c in AllStoragePresentationContexts} | set(EXTRA_SOP_CLASSES)
    assert by_class().keys() >= CT_SOP_CLASSES.keys()


def test_analysed_objects_are_accepted_in_decodable_syntaxes_only() -> None:
    for sop_class in CT_SOP_CLASSES:
        assert by_class()[sop_class] == list(DECODABLE)


def test_other_objects_are_accepted_in_any_encoding() -> None:
    video = by_class()["1.2.840.10008.5.1.4.1.1.77.1.4.1"]
    assert uid.MPEG4HP41 in video
    assert set(DECODABLE) <= set(video)
    assert uid.JPIPHTJ2KReferenced not in ANY_ENCODING


def test_accepted_syntaxes_are_those_with_a_decoder() -> None:
    assert set(DECODABLE) == set(supported_transfer_syntaxes())


def test_uncompressed_is_preferred_and_lossy_comes_last() -> None:
    order = list(DECODABLE)
    assert order[:2] == [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
    assert max(order.index(t) for t in (uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.RLELossless)) < min(
        order.index(t) for t in (uid.JPEGBaseline8Bit, uid.JPEGLSNearLossless, uid.JPEG2000)
    )


def test_uncompressed_syntaxes_are_all_there() -> None:
    assert {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    } <= set(DECODABLE)
