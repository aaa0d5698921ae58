"""DICOM listener: the listening socket, one thread per association, admission control."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from config.settings import Settings
from corewatch.clock import Clock, utc_now
from corewatch.errors import ConfigurationError
from corewatch.units import MIB
from dicom_listener.association import NEGOTIATION_TIMEOUT_S, Association, ListenerProfile
from dicom_listener.commitment_scp import StorageCommitment
from dicom_listener.connection import Connection
from dicom_listener.disk_guard import DiskGuard
from dicom_listener.negotiation import AssociateRequest
from dicom_listener.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_listener.policy import AssociationPolicy, Rejection
from dicom_listener.refusals import RefusalReports, mail_with
from dicom_listener.services import Service, Verification
from dicom_listener.storage_scp import SpoolTarget, Storage
from dicom_listener.tls import ServerTls
from foundation.addresses import CachedResolver, Resolver, parse_address
from foundation.durable import make_folders
from foundation.stopping import StopRequest
from foundation.throttle import LogThrottle, TokenBucket
from ledger.commitment_inbox import CommitmentInbox

log = structlog.get_logger()

ACCEPT_POLL_S = 0.25
"""Interval at which the accepting thread checks whether it should stop and which associations have ended."""
STOP_TIMEOUT_S = 20.0
"""Open associations may continue this long after the listener was asked to stop."""
ABORT_TIMEOUT_S = 5.0
"""An association that is aborted may take this long to send its A-ABORT."""
YIELD_S = 0.001
"""A process that shares the port waits this long per connection that it has, so that a less busy process accepts first."""
MAX_UNASSOCIATED = 128
"""Connections without an association request; for a further one the oldest of them is closed."""
MAX_UNASSOCIATED_PER_HOST = 24
"""The same for one address, so that a host with idle connections does not keep others out."""
ANY_ADDRESS = "::"
"""As `listener.host`: IPv6 and IPv4."""
ACCEPT_STALLED_AFTER_S = 10.0
"""The accepting thread, which runs its loop several times a second, counts as hanging after this long without a round."""
BACKLOG = 128
"""Connections that wait to be accepted; a PACS opens several at once."""


class StorageListener:
    """C-STORE, C-ECHO and storage commitment SCP. The constructor binds the port; `start` begins to accept, `stop` ends it.

    Parameters
    ----------
    settings
        `settings.listener` and `settings.received_dir` are used.
    processes
        Number of processes that share the port; each allows an equal part of the associations of `settings.listener`.
    services
        Services besides the built-in ones.
    resolve
        Resolves the host names of peers; None: the system's resolver with a cache.

    Raises
    ------
    ConfigurationError
        The port is taken, the host is no address of this machine, or a TLS file or the data folder cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        processes: int = 1,
        services: Sequence[Service] = (),
        guard: DiskGuard | None = None,
        resolve: Resolver | None = None,
        clock: Clock = utc_now,
    ) -> None:
        listener = settings.listener
        received = settings.received_dir
        try:
            make_folders(received)
        except OSError as error:
            raise ConfigurationError(f"data_dir: {received} cannot be made: {error.strerror}") from error
        self._settings = listener
        spool = SpoolTarget(received, guard or DiskGuard(received, listener.reserve_gib), clock, listener.max_instance_mib * MIB)
        rate = listener.max_instances_per_s_per_peer
        self._rate_limit = None if rate is None else TokenBucket(rate)
        self._profile = ListenerProfile.of(
            (
                Verification(),
                Storage(spool, self._wait_for_rate, RefusalReports(mail_with(settings.deliver.email)).report),
                StorageCommitment(CommitmentInbox(settings.commitment_dir), clock),
                *services,
            ),
            listener.max_pdu_bytes,
            listener.idle_timeout_s,
            (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION),
        )
        per_peer = listener.max_associations_per_peer
        self._policy = AssociationPolicy(
            listener.ae_title,
            listener.peers,
            _share(listener.max_associations, processes),
            None if per_peer is None else _share(per_peer, processes),
        )
        self._shared_port = processes > 1
        self._resolve = resolve or CachedResolver()
        self._log_throttle = LogThrottle()
        self._lock = threading.Lock()
        self._threads: dict[Association, threading.Thread] = {}
        self._admitted: set[Association] = set()
        self._evicted: set[Association] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_round_s = time.monotonic()
        self._tls = None if listener.tls is None else ServerTls(listener.tls)
        self._socket = _bind(listener.host, listener.port)
        self.port = int(self._socket.getsockname()[1])
        """The bound port, also where the settings say 0 (any free port)."""

    @property
    def open_associations(self) -> int:
        """Number of open associations."""
        with self._lock:
            return len(self._admitted)

    def start(self) -> None:
        """Begin to accept connections, in a new thread."""
        self._last_round_s = time.monotonic()
        self._thread = threading.Thread(target=self._accept, name="storage-listener")
        self._thread.start()

    def run_until(
        self, stop: StopRequest, timeout_s: float = STOP_TIMEOUT_S, *, heartbeat: Callable[[], None] = lambda: None
    ) -> None:
        """Accept until `stop` is requested, then stop. Calls `heartbeat` several times a second while connections are accepted.

        Raises
        ------
        RuntimeError
            The accepting thread has ended: the process must be replaced rather than stay and answer nobody.
        """
        self.start()
        try:
            while not stop.requested:
                if self._thread is not None and not self._thread.is_alive():
                    raise RuntimeError("the listener no longer accepts connections")
                if time.monotonic() - self._last_round_s < ACCEPT_STALLED_AFTER_S:
                    heartbeat()
                time.sleep(ACCEPT_POLL_S)
        finally:
            self.stop(timeout_s)

    def announce(self) -> None:
        """Log that the listener is ready."""
        peers = "loopback only" if not self._settings.peers else [f"{p.ae_title}@{p.host}" for p in self._settings.peers]
        log.info(
            "listening",
            ae_title=self._settings.ae_title,
            host=self._settings.host,
            port=self.port,
            tls=self._settings.tls is not None,
            peers=peers,
        )

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop accepting, let open associations finish for `timeout_s`, abort the rest. Returns when all threads have ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        # only this process's copy of the descriptor: other processes that share the port still listen
        self._socket.close()
        deadline = time.monotonic() + timeout_s
        while self.open_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._lock:
            admitted, rest = set(self._admitted), dict(self._threads)
        for association in rest:
            if association in admitted:
                log.warning("association_aborted", reason="the listener stops", peer_host=association.host)
            association.abort()
        for association, thread in rest.items():
            thread.join(ABORT_TIMEOUT_S)
            association.cut()
            thread.join()

    def admit(self, association: Association, request: AssociateRequest) -> Rejection | None:
        """Count the association as open, or return why it is rejected."""
        rejection = self._decide(association, request)
        if rejection is not None:
            self._warn(
                "association_rejected",
                rejection.explanation,
                association.host,
                peer_ae_title=request.calling_ae_title,
                called_ae_title=request.called_ae_title,
            )
        return rejection

    def leave(self, association: Association) -> None:
        """The association has ended."""
        with self._lock:
            self._admitted.discard(association)

    def fault(self, host: str, reason: str) -> None:
        """A peer violated TLS or the upper layer protocol."""
        self._warn("connection_refused", reason, host)

    def idle(self, host: str, seconds: float) -> None:
        """We end an association, because its peer has sent nothing for this long."""
        self._warn("association_ended", f"nothing was received for {seconds:g} s (listener.idle_timeout_s)", host)

    def _decide(self, association: Association, request: AssociateRequest) -> Rejection | None:
        if self._stopping.is_set():
            return Rejection.STOPPING
        # names are resolved without the lock: a slow name server must not hold up other senders
        rejection = self._policy.decide(request, association.host, 0, self._resolve)
        if rejection is not None:
            return rejection
        with self._lock:
            rejection = self._policy.check_room(len(self._admitted), sum(a.host == association.host for a in self._admitted))
            if rejection is None:
                self._admitted.add(association)
        return rejection

    def _accept(self) -> None:
        self._socket.setblocking(False)
        while not self._stopping.is_set():
            self._last_round_s = time.monotonic()
            self._forget_ended()
            if not select.select([self._socket], [], [], ACCEPT_POLL_S)[0]:
                continue
            if self._shared_port:
                time.sleep(YIELD_S * len(self._threads))
            try:
                accepted, address = self._socket.accept()
            except BlockingIOError:
                continue  # another process was faster
            except OSError as error:
                self._warn("accept_failed", error.strerror or type(error).__name__, "")
                time.sleep(ACCEPT_POLL_S)
                continue
            peer = str(address[0])
            # with both address families on one socket an IPv4 address has an IPv6 form, which no list of peers contains
            self._serve(accepted, str(parse_address(peer) or peer))

    def _serve(self, accepted: socket.socket, host: str) -> None:
        self._make_room(host)
        try:
            if self._tls is not None:
                # the association's thread does the handshake: a silent client must not block the accepting thread
                accepted = self._tls.current().wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
            connection = Connection(accepted, self._settings.max_pdu_bytes, NEGOTIATION_TIMEOUT_S)
            association = Association(connection, host, self._profile, self)
            thread = threading.Thread(target=self._run, args=(association, connection), name=f"association-{host}")
            thread.start()
        except (OSError, RuntimeError, MemoryError) as error:  # the peer has closed, or no thread can be started
            accepted.close()
            self._warn("connection_dropped", type(error).__name__, host)
            return
        with self._lock:
            self._threads[association] = thread

    def _run(self, association: Association, connection: Connection) -> None:
        # on the association's thread: a slow name server must not hold up other senders
        if self._policy.may_be_peer(association.host, self._resolve):
            association.run()
            return
        connection.close()
        self.fault(association.host, "no peer in listener.peers has this address")

    def _make_room(self, host: str) -> None:
        """Close the oldest connection without an association request where there are too many: a sender speaks at once."""
        with self._lock:
            silent = [a for a in self._threads if a not in self._admitted and a not in self._evicted]
            of_host = [a for a in silent if a.host == host]
            if len(of_host) >= MAX_UNASSOCIATED_PER_HOST:
                oldest = of_host[0]
            elif len(silent) >= MAX_UNASSOCIATED:
                oldest = silent[0]
            else:
                return
            self._evicted.add(oldest)
        oldest.cut()
        self.fault(oldest.host, "too many connections without an association request")

    def _forget_ended(self) -> None:
        with self._lock:
            for association in [a for a, thread in self._threads.items() if not thread.is_alive()]:
                del self._threads[association]
                self._evicted.discard(association)

    def _wait_for_rate(self, host: str) -> None:
        if self._rate_limit is None:
            return
        with self._lock:
            seconds = self._rate_limit.reserve(host, time.monotonic())
        self._stopping.wait(seconds)

    def _warn(self, event: str, reason: str, host: str, **details: Any) -> None:
        with self._lock:
            held_back = self._log_throttle.held_back(time.monotonic(), event, reason, host)
        if held_back is not None:
            log.warning(event, reason=reason, peer_host=host, not_logged_before=held_back, **details)


def _share(total: int, processes: int) -> int:
    """One process's part of a limit, rounded up."""
    return -(-total // processes)


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises
    ------
    ConfigurationError
        The port is taken, or the host is no address of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        both = host == ANY_ADDRESS and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise ConfigurationError(
            f"listener: cannot listen on {host}:{port}: {error.strerror or error}", "is the port in use?"
        ) from error
