"""Association as requestor (PS3.8) with TLS (PS3.15 B.12); errors are classified by what a person can do about them."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ

from corewatch.errors import CorewatchError, NoAnswer, OperatorNeeded, RetryLater

DEFAULT_MAX_PDU: Final = 262_144
"""Bytes of the longest P-DATA-TF that we accept."""

_EVENT_POLL_S: Final = 0.2
"""Interval at which `EventPump.wait` checks that the association is still established."""

_NAMES_ANOTHER_HOST: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""

_ANSWER_LIMIT_S: Final = 10.0
"""Longest wait for a response to the peer that is being sent."""


class AssociationRejected(CorewatchError):
    """The peer answered the association request with A-ASSOCIATE-RJ: it runs and speaks DICOM, but refuses us (PS3.8 9.3.4)."""


class RejectedForGood(AssociationRejected, OperatorNeeded):
    """Result 1, rejected-permanent."""


class RejectedForNow(AssociationRejected, RetryLater):
    """Result 2, rejected-transient."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: our certificate and key, and the authority that must have issued the peer's certificate."""

    certificate: Path
    key: Path
    authority: Path
    check_hostname: bool = False
    """Whether the peer's certificate must name the host that is called; `tls.check_hostname` in the settings."""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Address of an application entity, the AE titles of both sides, and time limits."""

    host: str
    port: int
    called_ae: str
    calling_ae: str
    timeout_s: float = 30.0
    tls: TlsFiles | None = None
    max_pdu: int = DEFAULT_MAX_PDU
    silence_s: float | None = None
    """Longest wait for the next response on an established association; None: `timeout_s`."""

    @property
    def longest_silence_s(self) -> float:
        """Longest wait for the next response, in seconds."""
        return self.timeout_s if self.silence_s is None else self.silence_s

    def __str__(self) -> str:
        return f"{self.called_ae} at {self.host}:{self.port}"


@contextmanager
def associated(
    peer: PeerAddress, contexts: list[Any], *, as_scp: Sequence[str] = (), handlers: Sequence[tuple[Any, Any]] = ()
) -> Iterator[Any]:
    """Context manager: an established association, released at the end, aborted if the body raises.

    Parameters
    ----------
    as_scp
        SOP classes for which we propose to be the SCP, although we are the requestor (PS3.7 D.3.3.4).
    handlers
        pynetdicom's event handlers.

    Raises
    ------
    NoAnswer, RetryLater
        The peer cannot be reached, or is busy.
    OperatorNeeded
        The peer permanently refuses the association or our certificate, or its certificate is not trusted.
    """
    ae = AE(ae_title=peer.calling_ae)
    ae.connection_timeout = ae.acse_timeout = peer.timeout_s
    ae.dimse_timeout = ae.network_timeout = peer.longest_silence_s
    events = HandshakeEvents()
    context = None if peer.tls is None else client_context(peer.tls, str(peer))
    try:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.called_ae,
            max_pdu=peer.max_pdu,
            tls_args=None if context is None else (context, peer.host),
            ext_neg=[build_role(sop_class, scp_role=True) for sop_class in as_scp],
            evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay), *events.handlers, *handlers],
        )
    except OSError as error:
        raise NoAnswer(f"{peer} cannot be reached ({error})", "check the host name and the network") from None
    if not association.is_established:
        if context is not None and context.fault is not None:
            raise _tls_error(context.fault, peer)
        raise _refusal(association, peer, events)
    serve_nothing(association)
    try:
        yield association
    except BaseException:
        if association.is_established:
            association.abort()
        raise
    if association.is_established:
        association.release()


class HandshakeEvents:
    """Outcome of our association request, from events of pynetdicom's reactor; for `evt_handlers`.

    The association object itself can be wrong. If the reactor handles an A-ASSOCIATE-RJ before the requesting thread wakes up,
    `ACSE._negotiate_as_requestor` finds the socket closed and reports a failed connection: one in fifteen on a busy machine.
    """

    def __init__(self) -> None:
        self.connected = False
        """The TCP connection, and TLS if configured, was established."""
        self.rejection: A_ASSOCIATE_RJ | None = None

    @property
    def handlers(self) -> list[tuple[Any, Any]]:
        """pynetdicom's event handlers."""
        return [(evt.EVT_CONN_OPEN, self._on_open), (evt.EVT_PDU_RECV, self._on_pdu)]

    def _on_open(self, event: Any) -> None:
        self.connected = True

    def _on_pdu(self, event: Any) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            self.rejection = event.pdu


def serve_nothing(association: Any) -> None:
    """Keep pynetdicom's reactor from consuming a response that a request waits for.

    The reactor of a requestor polls for requests of the peer, and pauses while a message is sent. A reactor that is preempted just
    after its pause (`Association._run_reactor`) treats the peer's response as a request and drops it, so that our request times
    out: about once in 10 000 instances on a busy machine. So the reactor does not poll. The only request that a peer sends on our
    association, N-EVENT-REPORT, is handled apart from it, see `EventPump`.
    """
    take = association.dimse.get_msg
    association.dimse.get_msg = lambda block=False: take(block=True) if block else (None, None)


class EventPump:
    """Waits for requests of the peer on our association, until each has been answered.

    pynetdicom answers each N-EVENT-REPORT in a separate thread, whose handler returns before the response is sent. A response after
    our A-RELEASE-RQ is an error (PS3.8 Table 9-10) that ends the association's thread: the peer gets no response, and we get none
    to the release. So requests in progress are counted.
    """

    def __init__(self, association: Any) -> None:
        self._association = association
        self._serve = association._serve_request
        self._changed = threading.Condition()
        self._in_progress = 0
        association._serve_request = self._one

    def _one(self, *arguments: Any) -> None:
        with self._changed:
            self._in_progress += 1
        try:
            self._serve(*arguments)
        finally:
            with self._changed:
                self._in_progress -= 1
                self._changed.notify_all()

    def wait(self, seconds: float, done: Callable[[], bool]) -> None:
        """Wait until `done`, the end of the association or the time limit, and then for responses in progress."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._association.is_established and not done() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, _EVENT_POLL_S))
            self._changed.wait_for(lambda: self._in_progress == 0, _ANSWER_LIMIT_S)


def _no_delay(event: Any) -> None:
    """Send small PDUs (commands, responses) at once: otherwise each C-STORE waits for Nagle's algorithm."""
    wrapper = event.assoc.dul.socket
    if wrapper is not None and wrapper.socket is not None:
        wrapper.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _ClientContext(ssl.SSLContext):
    """Keeps the TLS error: pynetdicom reports only that there is no association."""

    fault: ssl.SSLError | None = None


class _RememberingSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLError as error:
            _remember(self.context, error)
            raise

    def read(self, *arguments: Any) -> Any:
        # in TLS 1.3 the peer's alert about our certificate is received after the handshake
        try:
            return super().read(*arguments)
        except ssl.SSLError as error:
            _remember(self.context, error)
            raise


def _remember(context: ssl.SSLContext, error: ssl.SSLError) -> None:
    if isinstance(context, _ClientContext) and context.fault is None:
        context.fault = error


def client_context(files: TlsFiles, peer: str) -> _ClientContext:
    """TLS 1.2 or later towards `peer`, whose certificate must be issued by the authority of the files.

    Raises
    ------
    OperatorNeeded
        A file is missing or invalid.
    """
    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _RememberingSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = files.check_hostname
    try:
        context.load_verify_locations(cafile=str(files.authority))
        context.load_cert_chain(str(files.certificate), str(files.key))
    except (OSError, ssl.SSLError) as error:
        raise OperatorNeeded(f"the TLS files for {peer} cannot be used ({error})", "check certificate, key and authority") from None
    return context


def _tls_error(fault: ssl.SSLError, peer: PeerAddress) -> RetryLater | OperatorNeeded:
    """The error for a failed TLS handshake."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        remedy = "renew it there, or correct tls.authority"
        if fault.verify_code in _NAMES_ANOTHER_HOST:
            remedy = "call it by a name in its certificate, renew that, or set tls.check_hostname: false"
        return OperatorNeeded(f"{peer}: its TLS certificate is not to be trusted ({fault.verify_message})", remedy)
    reason = (fault.reason or "").lower().replace("_", " ")
    if "alert" in reason:
        return OperatorNeeded(
            f"{peer} refused our TLS certificate or settings ({reason})",
            "let it trust the authority of tls.certificate, and see "
            "that the certificate is still valid and that both sides allow TLS 1.2 or later",
        )
    if fault.reason in {"WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"}:
        return OperatorNeeded(f"{peer} does not speak TLS 1.2 or later on this port", "use its TLS port, or set tls: null")
    return NoAnswer(f"{peer} broke off the TLS handshake ({reason or 'connection closed'})", "look at its log")


def _refusal(association: Any, peer: PeerAddress, events: HandshakeEvents) -> RetryLater | OperatorNeeded:
    """The error for an association that was not established."""
    if (answer := events.rejection) is not None:
        reason = f"{peer} rejected the association: {answer.reason_str}"
        if answer.result == 0x02:  # rejected-transient, PS3.8 9.3.4
            return RejectedForNow(reason, "it is busy, no action needed unless this lasts")
        return RejectedForGood(reason, f"make it know our AE title {peer.calling_ae!r} and check the AE title we call")
    if association.rejected_contexts:
        names = sorted({UID(cx.abstract_syntax).name for cx in association.rejected_contexts})
        return OperatorNeeded(f"{peer} does not take {', '.join(names)}", "allow these SOP classes there")
    if events.connected:
        return NoAnswer(
            f"{peer} did not answer the association request within {peer.timeout_s:g} s or broke off", "look at its log"
        )
    return NoAnswer(f"{peer} cannot be reached", "check host, port, firewall" + (" and TLS on both sides" if peer.tls else ""))
