"""What the listener does for its peers: one service per kind of request, found by SOP class and command.

A new service is a module with a `Service`, added to the tuple that `server.StorageListener` makes. It says which SOP classes it
offers and gives each association a handler of its own; the handler takes requests one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydicom import uid

from corewatch.arrival import ArrivalOutcome
from corewatch.units import MIB
from dicom_listener.dimse import Command, CommandField, Value
from dicom_listener.negotiation import Context, Offer

VERIFICATION = "1.2.840.10008.1.1"
RESOURCE_LIMITATION = 0x0213
"""Resource limitation (PS3.7 C.5.20)."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who has an association with us: calling AE title and address."""

    ae_title: str
    host: str


@dataclass(frozen=True, slots=True)
class DimseRequest:
    """A request, before its data set."""

    command: Command
    context: Context


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request.

    Attributes
    ----------
    status
        Status (0000,0900).
    comment
        Error Comment (0000,0902): at most 64 characters, free of patient data.
    elements
        Further elements of the response, such as `Tag.ACTION_TYPE_ID`.
    data_set
        Encoded in the context's transfer syntax; None: there is none.
    """

    status: int
    comment: str = ""
    elements: Mapping[int, Value] = field(default_factory=dict)
    data_set: bytes | None = None


PROCESSING_FAILURE = Response(0x0110, "the receiver failed; see its log")
"""PS3.7 C.5.14."""
UNRECOGNISED = Response(0x0211, "operation not known for this SOP class")
"""The answer to what no service of the SOP class knows (PS3.7 C.5.23)."""


class RequestSink(Protocol):
    """A request whose data set is arriving. Exactly one of `finish` and `discard` is called, last."""

    def write(self, fragment: memoryview) -> None:
        """Take the next piece of the data set; it is valid during the call only."""

    def finish(self) -> Response:
        """The data set is whole (or there is none): do what was asked for, and say how it went."""

    def discard(self) -> None:
        """The association ended before the data set did."""


class Handler(Protocol):
    """One service on one association. Used by the association's thread only."""

    def begin(self, request: DimseRequest) -> RequestSink:
        """A request has come."""

    def close(self, outcome: ArrivalOutcome) -> None:
        """The association has ended; called once."""


class Service(Protocol):
    """One kind of request."""

    @property
    def commands(self) -> frozenset[int]:
        """Command fields that it answers, such as `CommandField.N_ACTION_RQ`."""

    @property
    def failure(self) -> Response:
        """The answer where the service itself fails, such as `PROCESSING_FAILURE`; the log holds the cause."""

    def offers(self) -> Iterable[Offer]:
        """SOP classes that it accepts."""

    def open(self, sender: Sender) -> Handler:
        """A handler for a new association."""


class BufferedRequest:
    """A data set that is small enough to be held in memory: collects it and asks `answer`, which gets the request and the bytes."""

    def __init__(self, request: DimseRequest, answer: Callable[[DimseRequest, bytes], Response], longest: int = 16 * MIB) -> None:
        self._request = request
        self._answer = answer
        self._longest = longest
        self._data = bytearray()
        self._too_long = False

    def write(self, fragment: memoryview) -> None:
        """Keep a piece; once there is more than `longest`, nothing is kept any more."""
        if self._too_long or len(self._data) + len(fragment) > self._longest:
            self._too_long = True
            self._data.clear()
        else:
            self._data += fragment

    def finish(self) -> Response:
        """The answer to the whole."""
        if self._too_long:
            return Response(RESOURCE_LIMITATION, "the data set is too long")
        return self._answer(self._request, bytes(self._data))

    def discard(self) -> None:
        """Nothing was done yet."""
        self._data.clear()


class ImmediateResponse:
    """A request whose answer is known before its data set, which is passed over."""

    def __init__(self, reply: Response) -> None:
        self._reply = reply

    def write(self, fragment: memoryview) -> None:
        """Pass over a piece."""

    def finish(self) -> Response:
        """The answer."""
        return self._reply

    def discard(self) -> None:
        """There is nothing to give up."""


class Verification:
    """C-ECHO (PS3.4 Annex A). It has no state, so that one handler serves all."""

    commands = frozenset({int(CommandField.C_ECHO_RQ)})
    failure = PROCESSING_FAILURE

    def offers(self) -> Sequence[Offer]:
        """The Verification SOP class."""
        return (Offer(VERIFICATION, (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)),)

    def open(self, _sender: Sender) -> Verification:
        """Itself."""
        return self

    def begin(self, _request: DimseRequest) -> RequestSink:
        """An echo."""
        return ImmediateResponse(Response(0x0000))

    def close(self, outcome: ArrivalOutcome) -> None:
        """Nothing to end."""
