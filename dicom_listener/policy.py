"""Admission policy: who may open an association. A pure decision: a function that is passed in resolves host names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from config.intake import Peer
from dicom_listener.negotiation import APPLICATION_CONTEXT, AssociateRequest
from foundation.addresses import Resolver, host_matches, parse_address

_SERVICE_USER = 1


class Rejection(Enum):
    """Reason for an A-ASSOCIATE-RJ, with its result, source and reason/diagnostic (PS3.8 Table 9-21)."""

    PROTOCOL_VERSION = ("protocol version not supported", 1, 2, 2)
    APPLICATION_CONTEXT = ("application context name not supported", 1, 1, 2)
    CALLED_AE_TITLE = ("called AE title is not ours", 1, 1, 7)
    NO_CALLING_AE_TITLE = ("calling AE title is empty", 1, 1, 3)
    CALLING_AE_TITLE = ("calling AE title is not among listener.peers", 1, 1, 3)
    HOST = ("address is not the one listed for this AE title in listener.peers", 1, 1, 3)
    NOT_LOOPBACK = ("listener.peers is empty, so only programs on this machine may send", 1, 1, 3)
    TOO_MANY = ("listener.max_associations are open", 2, 3, 2)
    """Result 2, transient: the sender is expected to try again."""
    TOO_MANY_OF_PEER = ("listener.max_associations_per_peer are open from this address", 2, 3, 2)
    STOPPING = ("the listener is stopping", 2, 3, 1)

    @property
    def explanation(self) -> str:
        """For the log."""
        return self.value[0]

    @property
    def codes(self) -> tuple[int, int, int]:
        """Result, source and reason/diagnostic of the A-ASSOCIATE-RJ."""
        return self.value[1:]

    @property
    def by_provider(self) -> bool:
        """Whether the upper layer's service provider rejects (sources 2 and 3), not its user (source 1)."""
        return self.codes[1] != _SERVICE_USER


@dataclass(frozen=True, slots=True)
class AssociationPolicy:
    """The rules of one listener.

    Attributes
    ----------
    peers
        Allowed pairs of AE title and host; a host is an address, a network (`10.1.2.0/24`) or a name. Programs on this machine
        (loopback) may always send, under any AE title: an administrator can test the listener from the machine itself.
    max_per_peer
        Open associations from one address; None: no limit but `max_associations`.
    """

    ae_title: str
    peers: Sequence[Peer]
    max_associations: int
    max_per_peer: int | None = None

    def decide(
        self, request: AssociateRequest, address: str, open_associations: int, resolve: Resolver, open_of_peer: int = 0
    ) -> Rejection | None:
        """Return None to accept, else the first reason to reject.

        Parameters
        ----------
        address
            Of the peer, as the connection has it.
        open_associations
            Number that are open, without this one.
        open_of_peer
            Number of those from the same address.
        """
        if not request.version_supported:
            return Rejection.PROTOCOL_VERSION
        if request.application_context != APPLICATION_CONTEXT:
            return Rejection.APPLICATION_CONTEXT
        if request.called_ae_title.strip() != self.ae_title.strip():
            return Rejection.CALLED_AE_TITLE
        if not request.calling_ae_title.strip():
            return Rejection.NO_CALLING_AE_TITLE
        refused = self._check_peer(request.calling_ae_title, address, resolve)
        if refused is not None:
            return refused
        return self.check_room(open_associations, open_of_peer)

    def may_be_peer(self, host: str, resolve: Resolver) -> bool:
        """Whether any peer has this address; decided when a connection is accepted, before it says anything."""
        address = parse_address(host)
        if address is None or address.is_loopback:
            return True
        return any(host_matches(peer.host, address, resolve) for peer in self.peers)

    def check_room(self, open_associations: int, open_of_peer: int) -> Rejection | None:
        """The rules that depend on the number of open associations."""
        if open_associations >= self.max_associations:
            return Rejection.TOO_MANY
        if self.max_per_peer is not None and open_of_peer >= self.max_per_peer:
            return Rejection.TOO_MANY_OF_PEER
        return None

    def _check_peer(self, calling_ae_title: str, host: str, resolve: Resolver) -> Rejection | None:
        address = parse_address(host)
        if address is not None and address.is_loopback:
            return None
        if not self.peers:
            return Rejection.NOT_LOOPBACK
        hosts = [p.host for p in self.peers if p.ae_title.strip() == calling_ae_title.strip()]
        if not hosts:
            return Rejection.CALLING_AE_TITLE
        if address is None or not any(host_matches(host, address, resolve) for host in hosts):
            return Rejection.HOST
        return None
