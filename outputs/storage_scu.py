"""Storage SCU and Verification SCU (PS3.4 Annexes B and A): sends DICOM files as they are, without decoding pixel data."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.sop_class import Verification

from corewatch.errors import OperatorNeeded, RetryLater

_LOG = logging.getLogger(__name__)

# Files go out in fragments as they lie on disk. Process-wide in pynetdicom, and nothing else in corewatch calls send_c_store.
_config.STORE_SEND_CHUNKED_DATASET = True

DEFAULT_MAX_PDU: Final = 262_144
"""Bytes of one P-DATA-TF PDU that we take; the peer says what it takes."""

MAX_CONTEXTS: Final = 128
"""Presentation contexts of one association: odd numbers up to 255 (PS3.8 9.3.2.2)."""

_NATIVE: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_REENCODABLE: Final = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
"""Not the retired big endian: the words of its pixel data would have to be swapped."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Our certificate and key, and the authority that the peer's certificate must come from (PEM)."""

    certificate: Path
    key: Path
    authority: Path
    check_hostname: bool = False
    """DICOM nodes are known by the site's authority (PS3.15 B.12) and often reached by address, so names are not compared."""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """An application entity on the network, and how we call it."""

    host: str
    port: int
    called_ae: str
    calling_ae: str
    timeout_s: float = 30.0
    tls: TlsFiles | None = None
    max_pdu: int = DEFAULT_MAX_PDU

    def __str__(self) -> str:
        return f"{self.called_ae} at {self.host}:{self.port}"


class StoreResult(StrEnum):
    """What became of one instance."""

    ACCEPTED = "accepted"
    WARNING = "warning"
    """Stored, with something changed or left out."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """The peer's answer for one instance.

    Attributes
    ----------
    status
        C-STORE status (PS3.4 B.2.3); None where the instance was not sent, because the peer takes no presentation context for it.
    temporary
        A failure that may pass by itself.
    """

    path: Path
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
) -> tuple[StoreOutcome, ...]:
    """Send DICOM files by C-STORE, in their own SOP classes and transfer syntaxes, over one association.

    A native (uncompressed) file is re-encoded where the peer takes another native transfer syntax only; a compressed file is never
    decoded.

    Parameters
    ----------
    timeout_s
        Longest wait, in seconds, for a connection and for each answer.
    progress
        Called after each instance.

    Returns
    -------
    One outcome for each file, in their order; failures of single instances are outcomes, not exceptions.

    Raises
    ------
    RetryLater
        The peer could not be reached, is busy, or the association broke.
    OperatorNeeded
        The peer refused the association for good, takes none of the SOP classes, or a file is not DICOM.
    """
    peer = PeerAddress(host, port, called_ae, calling_ae, timeout_s, tls, max_pdu)
    files = [_read_meta(Path(path)) for path in paths]
    outcomes: list[StoreOutcome] = []
    for batch in _batches(files):
        wanted = _contexts(batch)
        with _association(peer, [build_context(sop_class, syntax) for sop_class, syntax in wanted]) as association:
            taken = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
            for number, file in enumerate(batch, start=1):
                outcome = _send_one(association, peer, file, taken, number)
                outcomes.append(outcome)
                if progress is not None:
                    progress(outcome)
    return tuple(outcomes)


def echo(*, host: str, port: int, called_ae: str, calling_ae: str, timeout_s: float = 10.0, tls: TlsFiles | None = None) -> None:
    """C-ECHO: returns if the peer answers, raises as `send_files` does if not."""
    peer = PeerAddress(host, port, called_ae, calling_ae, timeout_s, tls)
    with _association(peer, [build_context(Verification, syntax) for syntax in _NATIVE]) as association:
        status = association.send_c_echo()
        if "Status" not in status:
            raise RetryLater(f"{peer} did not answer the C-ECHO within {timeout_s:g} s; look at its log and load")
        if status.Status != 0x0000:
            raise OperatorNeeded(f"{peer} answered the C-ECHO with status 0x{status.Status:04X}; ask its operator")


def _read_meta(path: Path) -> _File:
    try:
        meta = read_file_meta_info(path)
        return _File(path, UID(meta.MediaStorageSOPClassUID), UID(meta.MediaStorageSOPInstanceUID), UID(meta.TransferSyntaxUID))
    except (OSError, InvalidDicomError, AttributeError, EOFError, ValueError):
        raise OperatorNeeded(
            f"{path.name} is not a DICOM file with file meta information (PS3.10); take it out and send again"
        ) from None


def _proposed(file: _File) -> tuple[UID, ...]:
    """Transfer syntaxes that the file can go out in: its own, and for a native one the two that every peer knows."""
    if file.transfer_syntax not in _REENCODABLE:
        return (file.transfer_syntax,)
    return tuple(dict.fromkeys((file.transfer_syntax, *_NATIVE)))


def _contexts(files: Sequence[_File]) -> list[tuple[UID, UID]]:
    """Distinct (SOP class, transfer syntax); one transfer syntax each, so that it is ours to choose which of them is used."""
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


def _send_one(association: Any, peer: PeerAddress, file: _File, taken: set[tuple[Any, Any]], message_id: int) -> StoreOutcome:
    uid = str(file.sop_instance)
    syntax = next((s for s in _proposed(file) if (file.sop_class, s) in taken), None)
    if syntax is None:
        words = f"the peer does not take {file.sop_class.name} in {file.transfer_syntax.name}"
        return StoreOutcome(file.path, uid, StoreResult.FAILED, None, words)
    try:
        data = file.path if syntax == file.transfer_syntax else dcmread(file.path)
        status = association.send_c_store(data, msg_id=message_id % 65535 + 1, priority=0)
    except RuntimeError:
        raise RetryLater(f"{peer} ended the association before {file.path.name}; look at its log") from None
    except (ValueError, AttributeError, OSError) as error:
        raise OperatorNeeded(f"{file.path.name} cannot be encoded for {peer}: {type(error).__name__}") from None
    if "Status" not in status:
        raise RetryLater(f"{peer} broke off or did not answer within {peer.timeout_s:g} s; look at its log and load")
    result, words, temporary = classify_status(status.Status)
    return StoreOutcome(file.path, uid, result, status.Status, words, temporary)


@contextmanager
def _association(peer: PeerAddress, contexts: list[Any]) -> Iterator[Any]:
    """An established association; released on the way out, aborted where something was raised."""
    ae = AE(ae_title=peer.calling_ae)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout_s
    connected: list[bool] = []

    def on_open(event: Any) -> None:
        connected.append(True)
        _no_delay(event)

    tls_args = _tls(peer)
    try:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.called_ae,
            max_pdu=peer.max_pdu,
            tls_args=tls_args,
            evt_handlers=[(evt.EVT_CONN_OPEN, on_open)],
        )
    except OSError as error:
        raise RetryLater(f"{peer} cannot be reached ({error}); check the host name and the network") from None
    if not association.is_established:
        raise _refusal(association, peer, bool(connected))
    _serve_nothing(association)
    try:
        yield association
    except BaseException:
        if association.is_established:
            association.abort()
        raise
    if association.is_established:
        association.release()


def _serve_nothing(association: Any) -> None:
    """Keep pynetdicom's reactor from taking an answer that `send_c_store` waits for.

    The reactor of a requestor looks for requests of the peer, and pauses while something is sent. A reactor that was preempted just
    behind its pause (`Association._run_reactor`) takes the peer's answer for a request and drops it: about once in 10 000 instances
    on a busy machine, and then the send waits until it times out. An SCU serves no requests, so its reactor need not look.
    """
    take = association.dimse.get_msg
    association.dimse.get_msg = lambda block=False: take(block=True) if block else (None, None)


def _no_delay(event: Any) -> None:
    """Small PDUs (commands, answers) leave at once: without this each C-STORE waits for Nagle's algorithm."""
    wrapper = event.assoc.dul.socket
    if wrapper is not None and wrapper.socket is not None:
        wrapper.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tls(peer: PeerAddress) -> tuple[ssl.SSLContext, str] | None:
    if peer.tls is None:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(peer.tls.authority))
        context.check_hostname = peer.tls.check_hostname
        context.load_cert_chain(str(peer.tls.certificate), str(peer.tls.key))
    except (OSError, ssl.SSLError) as error:
        raise OperatorNeeded(f"the TLS files for {peer} cannot be used ({error}); check certificate, key and authority") from None
    return context, peer.host


def _refusal(association: Any, peer: PeerAddress, connected: bool) -> RetryLater | OperatorNeeded:
    """The error for an association that was not established."""
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = f"{peer} rejected the association: {answer.reason_str}"
        if answer.result == 0x02:  # rejected-transient, PS3.8 9.3.4
            return RetryLater(f"{reason}; it is busy, no action needed unless this lasts")
        return OperatorNeeded(f"{reason}; make it know our AE title {peer.calling_ae!r} and check the AE title we call")
    if association.rejected_contexts:
        names = sorted({UID(cx.abstract_syntax).name for cx in association.rejected_contexts})
        return OperatorNeeded(f"{peer} does not take {', '.join(names)}; allow these SOP classes there")
    if connected:
        return RetryLater(
            f"{peer} did not answer the association request within {peer.timeout_s:g} s or broke off; look at its log"
        )
    return RetryLater(f"{peer} cannot be reached; check host, port, firewall" + (" and TLS on both sides" if peer.tls else ""))
