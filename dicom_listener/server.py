"""The Storage SCP: pynetdicom's upper layer, our rules and our spool."""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom.transport import ThreadedAssociationServer

from config.settings import Settings
from config.stopping import StopRequest
from corewatch.arrival import ArrivalOutcome
from corewatch.clock import Clock, utc_now
from corewatch.errors import ConfigurationError
from dicom_listener.contexts import supported_contexts
from dicom_listener.disk import DiskGuard
from dicom_listener.instance import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, StoreRequest
from dicom_listener.policy import AssociationPolicy, Rejection, Request, Resolver
from dicom_listener.session import Session, Spool
from dicom_listener.status import ASSOCIATION_ENDED, INTERNAL_ERROR, StorageStatus
from dicom_listener.transport import prepare_connection, server_tls
from ledger.durable import make_folders

log = structlog.get_logger()

ACCEPT_POLL_S = 0.25
"""How often the accepting thread looks whether it should stop, and which associations have ended."""
NEGOTIATION_TIMEOUT_S = 15.0
"""A connection that has not asked for an association by then is closed."""
STOP_TIMEOUT_S = 20.0
"""How long open associations may go on after the listener was asked to stop."""
BACKLOG = 128
"""Connections that wait to be accepted; a PACS opens several at once."""


def resolve_host(name: str) -> frozenset[str]:
    """Addresses of a host name from the system's resolver; empty where it has none."""
    try:
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return frozenset()


class StorageListener:
    """C-STORE and C-ECHO SCP. The port is bound when the object is made; `start` begins to accept, `stop` ends it.

    Parameters
    ----------
    settings
        `settings.listener` and `settings.received_dir` are used.
    max_associations
        How many at once; None: `settings.listener.max_associations`.

    Raises
    ------
    ConfigurationError
        The port is taken, the host is not ours, or a TLS file or the data folder cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_associations: int | None = None,
        guard: DiskGuard | None = None,
        resolve: Resolver = resolve_host,
        clock: Clock = utc_now,
    ) -> None:
        listener = settings.listener
        received = settings.received_dir
        try:
            make_folders(received)
        except OSError as error:
            raise ConfigurationError(f"data_dir: {received} cannot be made: {error.strerror}") from error
        self._settings = listener
        self._spool = Spool(received, guard or DiskGuard(received, listener.reserve_gib), clock)
        self._policy = AssociationPolicy(listener.ae_title, listener.peers, max_associations or listener.max_associations)
        self._resolve = resolve
        self._lock = threading.Lock()
        self._connections: set[Any] = set()
        self._sessions: dict[Any, Session] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._server = self._bind()

    @property
    def port(self) -> int:
        """The port that is listened on, also where the settings say 0 (any free one)."""
        return int(self._server.server_address[1])

    @property
    def open_associations(self) -> int:
        """Associations that are open now."""
        with self._lock:
            return len(self._sessions)

    def start(self) -> None:
        """Begin to accept, in a thread of its own."""
        self._thread = threading.Thread(target=self._accept, name="storage-listener")
        self._thread.start()

    def run_until(self, stop: StopRequest, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Accept until `stop` is requested, then stop."""
        self.start()
        try:
            while not stop.requested:
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
        """Accept nothing new, let open associations finish for `timeout_s`, abort the rest; returns when all threads have ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        # only our copy of the descriptor: other processes that share the port go on listening
        self._server.socket.close()
        deadline = time.monotonic() + timeout_s
        while self.open_associations and time.monotonic() < deadline:
            time.sleep(0.02)
            self._sweep()
        with self._lock:
            rest, connections = list(self._sessions), list(self._connections)
        for association in rest:
            log.warning("association_aborted", reason="the listener stops", peer_host=association.requestor.address)
            association.abort()
        for association in connections:
            _wake(association)
        for association in connections:
            if association.ident is not None:
                association.join()
        self._sweep()

    def _bind(self) -> Any:
        settings = self._settings
        # the standard handlers render every message as text, wanted or not; what matters is logged here
        _config.LOG_HANDLER_LEVEL = "none"
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
        entity = AE(ae_title=settings.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION
        entity.maximum_pdu_size = settings.max_pdu_bytes
        entity.maximum_associations = 2**31  # our own rule counts established associations, not mere connections
        entity.acse_timeout = NEGOTIATION_TIMEOUT_S
        entity.dimse_timeout = settings.idle_timeout_s
        entity.network_timeout = settings.idle_timeout_s
        try:
            server = entity.make_server(
                (settings.host, settings.port),
                contexts=supported_contexts(),
                ssl_context=None if settings.tls is None else server_tls(settings.tls),
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._on_connection),
                    (evt.EVT_REQUESTED, self._on_request),
                    (evt.EVT_C_STORE, self._on_store),
                    (evt.EVT_RELEASED, self._on_end, [ArrivalOutcome.RELEASED]),
                    (evt.EVT_ABORTED, self._on_end, [ArrivalOutcome.ABORTED]),
                    (evt.EVT_CONN_CLOSE, self._on_disconnection),
                ],
                server_class=ThreadedAssociationServer,
            )
        except OSError as error:
            raise ConfigurationError(
                f"listener: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; is the port in use?"
            ) from error
        server.timeout = ACCEPT_POLL_S
        # with several processes on one port another one may take the connection first: do not wait for the next
        server.socket.settimeout(ACCEPT_POLL_S)
        server.socket.listen(BACKLOG)
        return server

    def _accept(self) -> None:
        while not self._stopping.is_set():
            self._server.handle_request()
            self._sweep()

    def _sweep(self) -> None:
        """Close what ended without an event, such as an association whose thread died."""
        with self._lock:
            dead = [a for a in self._connections if a.ident is not None and not a.is_alive()]
            self._connections.difference_update(dead)
            sessions = [self._sessions.pop(a) for a in dead if a in self._sessions]
        for session in sessions:
            session.close(ArrivalOutcome.ABORTED)

    def _on_connection(self, event: Any) -> None:
        prepare_connection(event.assoc.dul.socket, self._settings.idle_timeout_s, self._settings.max_pdu_bytes + 6)
        with self._lock:
            self._connections.add(event.assoc)

    def _on_disconnection(self, event: Any) -> None:
        _wake(event.assoc)

    def _on_request(self, event: Any) -> None:
        association = event.assoc
        requestor = association.requestor
        primitive = requestor.primitive
        request = Request(
            calling_ae_title=str(primitive.calling_ae_title),
            called_ae_title=str(primitive.called_ae_title),
            address=str(requestor.address),
            application_context=str(primitive.application_context_name),
        )
        rejection = self._admit(association, request)
        if rejection is None:
            return
        log.warning(
            "association_rejected",
            reason=rejection.explanation,
            peer_ae_title=request.calling_ae_title.strip(),
            peer_host=request.address,
            called_ae_title=request.called_ae_title.strip(),
        )
        association.acse.send_reject(*rejection.codes)
        association.kill()

    def _admit(self, association: Any, request: Request) -> Rejection | None:
        if self._stopping.is_set():
            return Rejection.STOPPING
        # names are resolved without the lock: a slow name server must not hold up other senders
        rejection = self._policy.decide(request, self.open_associations, self._resolve)
        if rejection is not None:
            return rejection
        with self._lock:
            if len(self._sessions) >= self._policy.max_associations:
                return Rejection.TOO_MANY
            self._sessions[association] = Session(self._spool, request.calling_ae_title.strip(), request.address)
        return None

    def _on_store(self, event: Any) -> Any:
        status = self._store(event)
        return status.code if status.success else status.to_dataset()

    def _store(self, event: Any) -> StorageStatus:
        with self._lock:
            session = self._sessions.get(event.assoc)
        if session is None:
            return ASSOCIATION_ENDED
        message = event.request
        request = StoreRequest(
            sop_class_uid=str(message.AffectedSOPClassUID or ""),
            sop_instance_uid=str(message.AffectedSOPInstanceUID or ""),
            transfer_syntax_uid=str(event.context.transfer_syntax),
        )
        try:
            return session.store(request, message.DataSet.getbuffer())
        except Exception as error:
            # a defect of ours must not pass for success nor end the association; where it happened is logged, but not the
            # message, which may quote the data set
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("store_failed", error=type(error).__name__, where=f"{Path(frame.filename).name}:{frame.lineno}")
            return INTERNAL_ERROR

    def _on_end(self, event: Any, outcome: ArrivalOutcome) -> None:
        with self._lock:
            session = self._sessions.pop(event.assoc, None)
        if session is not None:
            session.close(outcome)


def _wake(association: Any) -> None:
    """Let the thread of a connection that ended before it asked for an association end too, not only after its time limit."""
    if association.requestor.primitive is None:
        association.dul.to_user_queue.put(None)
