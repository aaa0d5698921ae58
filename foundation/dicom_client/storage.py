"""Storage SCU and Verification SCU (PS3.4 Annexes B and A): sends DICOM files as they are, without decoding pixel data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import _config, build_context
from pynetdicom.sop_class import Verification

from corewatch.errors import NoAnswer, OperatorNeeded, SlowAnswer
from foundation.dicom_client.association import DEFAULT_MAX_PDU, PeerAddress, TlsFiles, associated

# Send files in fragments, without loading them. Process-wide in pynetdicom; nothing else in corewatch calls send_c_store.
_config.STORE_SEND_CHUNKED_DATASET = True

MAX_CONTEXTS: Final = 128
"""Presentation contexts of one association: odd numbers up to 255 (PS3.8 9.3.2.2)."""

_NATIVE: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_REENCODABLE: Final = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
"""Not the retired big endian: the words of its pixel data would have to be swapped."""
_LOSSLESS: Final = frozenset({RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLossless, JPEGLosslessSV1})
"""Decoded for a peer that accepts native transfer syntaxes only."""


class StoreResult(StrEnum):
    """Result of one C-STORE."""

    ACCEPTED = "accepted"
    WARNING = "warning"
    """Stored, with elements changed or dropped."""
    FAILED = "failed"


class BrokenOff(NoAnswer):
    """The association was established, and ended or timed out at one instance."""


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """The peer's response for one instance.

    Attributes
    ----------
    status
        C-STORE status (PS3.4 B.2.3); None if the instance was not sent, because the peer accepted no presentation context for it.
    temporary
        The failure may pass by itself.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    result: StoreResult
    status: int | None
    meaning: str
    temporary: bool = False


def classify_status(status: int) -> tuple[StoreResult, str, bool]:
    """Meaning of a C-STORE status (PS3.4 B.2.3, PS3.7 Annex C): result, words, and whether a failure may pass by itself."""
    for first, last, result, words, temporary in _STATUSES:
        if first <= status <= last:
            return result, words, temporary
    return StoreResult.FAILED, "unknown status", False


_STATUSES: Final = (
    (0x0000, 0x0000, StoreResult.ACCEPTED, "stored", False),
    (0x0107, 0x0107, StoreResult.WARNING, "stored, attribute list error", False),
    (0x0111, 0x0111, StoreResult.ACCEPTED, "the peer has this instance already", False),
    (0x0116, 0x0116, StoreResult.WARNING, "stored, attribute value out of range", False),
    (0x0110, 0x0110, StoreResult.FAILED, "processing failure", True),
    (0x0117, 0x0117, StoreResult.FAILED, "invalid SOP instance", False),
    (0x0122, 0x0122, StoreResult.FAILED, "SOP class not supported", False),
    (0x0124, 0x0124, StoreResult.FAILED, "not authorised", False),
    (0x0210, 0x0213, StoreResult.FAILED, "the request was not understood, or the peer is out of resources", True),
    (0xA700, 0xA7FF, StoreResult.FAILED, "out of resources", True),
    (0xA900, 0xA9FF, StoreResult.FAILED, "data set does not match SOP class", False),
    (0xB000, 0xBFFF, StoreResult.WARNING, "stored, with elements coerced or discarded", False),
    (0xC000, 0xCFFF, StoreResult.FAILED, "the peer cannot understand the data set", False),
)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sop_class: UID
    sop_instance: UID
    transfer_syntax: UID


def send_files(
    paths: Iterable[Path],
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str,
    timeout_s: float = 30.0,
    tls: TlsFiles | None = None,
    max_pdu: int = DEFAULT_MAX_PDU,
    progress: Callable[[StoreOutcome], None] | None = None,
    attempt_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[StoreOutcome, ...]:
    """Send DICOM files by C-STORE, in their own SOP classes and transfer syntaxes, over one association.

    If the peer accepts native (uncompressed) transfer syntaxes only, a native or losslessly compressed file is re-encoded with
    unchanged pixels. A lossy compressed file is never decoded.

    Parameters
    ----------
    timeout_s
        Longest wait, in seconds, for a connection and for each response.
    progress
        Called after each instance.
    attempt_s
        No instance is begun this many seconds after the call, except the first one; None: no limit.

    Returns
    -------
    One outcome for each file, in their order; failures of single instances are outcomes, not exceptions.

    Raises
    ------
    RetryLater
        The peer could not be reached, is busy, or the association broke (`BrokenOff`).
    SlowAnswer
        `attempt_s` has passed, and instances are left.
    OperatorNeeded
        The peer permanently refuses the association, accepts none of the SOP classes, or a file is not DICOM.
    """
    peer = PeerAddress(host, port, called_ae, calling_ae, timeout_s, tls, max_pdu)
    files = [_read_meta(Path(path)) for path in paths]
    outcomes: list[StoreOutcome] = []
    began = clock()
    for batch in _batches(files):
        wanted = _contexts(batch)
        with associated(peer, [build_context(sop_class, syntax) for sop_class, syntax in wanted]) as association:
            accepted = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
            for number, file in enumerate(batch, start=1):
                if outcomes and attempt_s is not None and clock() - began >= attempt_s:
                    words = f"{peer} is slow: it stored {len(outcomes)} of {len(files)} objects in {clock() - began:.0f} s"
                    raise SlowAnswer(words, "look at its load and the network; the others follow")
                outcome = _send_one(association, peer, file, accepted, number)
                outcomes.append(outcome)
                if progress is not None:
                    progress(outcome)
    return tuple(outcomes)


def echo(*, host: str, port: int, called_ae: str, calling_ae: str, timeout_s: float = 10.0, tls: TlsFiles | None = None) -> None:
    """C-ECHO: returns if the peer answers, raises as `send_files` does if not."""
    peer = PeerAddress(host, port, called_ae, calling_ae, timeout_s, tls)
    with associated(peer, [build_context(Verification, syntax) for syntax in _NATIVE]) as association:
        status = association.send_c_echo()
        if "Status" not in status:
            raise NoAnswer(f"{peer} did not answer the C-ECHO within {timeout_s:g} s", "look at its log and load")
        if status.Status != 0x0000:
            raise OperatorNeeded(f"{peer} answered the C-ECHO with status 0x{status.Status:04X}", "ask its operator")


def refused_sop_classes(peer: PeerAddress, sop_classes: Sequence[str]) -> tuple[str, ...]:
    """Which of the SOP classes the peer does not take from us (it refuses the presentation context); sends nothing.

    Raises as `send_files` where there is no association.
    """
    contexts = [build_context(Verification, list(_NATIVE)), *(build_context(one, list(_NATIVE)) for one in sop_classes)]
    with associated(peer, contexts) as association:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    return tuple(one for one in sop_classes if one not in accepted)


def file_identity(path: Path) -> tuple[str, str]:
    """SOP Class and SOP Instance UID of a DICOM file, from its file meta information; raises as `send_files`."""
    file = _read_meta(path)
    return str(file.sop_class), str(file.sop_instance)


def _read_meta(path: Path) -> _File:
    try:
        meta = read_file_meta_info(path)
        return _File(path, UID(meta.MediaStorageSOPClassUID), UID(meta.MediaStorageSOPInstanceUID), UID(meta.TransferSyntaxUID))
    except (OSError, InvalidDicomError, AttributeError, EOFError, ValueError):
        raise OperatorNeeded(
            f"{path.name} is not a DICOM file with file meta information (PS3.10)", "remove it and send again"
        ) from None


def _proposed(file: _File) -> tuple[UID, ...]:
    """Transfer syntaxes to propose: the file's own, and if nothing is lost by it the two native ones that every peer supports."""
    if file.transfer_syntax not in _REENCODABLE | _LOSSLESS:
        return (file.transfer_syntax,)
    return tuple(dict.fromkeys((file.transfer_syntax, *_NATIVE)))


def _native(file: _File) -> Dataset:
    dataset = dcmread(file.path)
    if file.transfer_syntax in _LOSSLESS:
        dataset.decompress(generate_instance_uid=False)  # the same pixels are the same instance (PS3.5 A.4)
    return dataset


def _contexts(files: Sequence[_File]) -> list[tuple[UID, UID]]:
    """Distinct (SOP class, transfer syntax); one transfer syntax per context, so that we choose which is used."""
    return list(dict.fromkeys((file.sop_class, syntax) for file in files for syntax in _proposed(file)))


def _batches(files: Sequence[_File]) -> Iterator[list[_File]]:
    """Runs of files whose presentation contexts fit into one association."""
    batch: list[_File] = []
    contexts: set[tuple[UID, UID]] = set()
    for file in files:
        more = {(file.sop_class, syntax) for syntax in _proposed(file)}
        if batch and len(contexts | more) > MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(file)
        contexts |= more
    if batch:
        yield batch


def _send_one(association: Any, peer: PeerAddress, file: _File, accepted: set[tuple[Any, Any]], message_id: int) -> StoreOutcome:
    names = (file.path, str(file.sop_class), str(file.sop_instance))
    syntax = next((s for s in _proposed(file) if (file.sop_class, s) in accepted), None)
    if syntax is None:
        words = f"the peer does not take {file.sop_class.name} in {file.transfer_syntax.name}"
        return StoreOutcome(*names, StoreResult.FAILED, None, words)
    try:
        data = file.path if syntax == file.transfer_syntax else _native(file)
        status = association.send_c_store(data, msg_id=message_id % 65535 + 1, priority=0)
    except RuntimeError:
        raise BrokenOff(f"{peer} ended the association before {file.path.name}", "look at its log") from None
    except (ValueError, AttributeError, NotImplementedError, OSError) as error:
        raise OperatorNeeded(
            f"{file.path.name} cannot be encoded for {peer} ({type(error).__name__})", f"let it take {file.transfer_syntax.name}"
        ) from None
    if "Status" not in status:
        words = f"{peer} broke off at {file.path.name}, or did not answer it within {peer.timeout_s:g} s"
        raise BrokenOff(words, "look at its log and load")
    result, words, temporary = classify_status(status.Status)
    return StoreOutcome(*names, result, status.Status, words, temporary)
