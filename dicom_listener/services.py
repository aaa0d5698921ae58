"""DIMSE services of the listener: protocols of service, handler and request sink, and C-ECHO.

A request finds its service by SOP class and command field. A new service is a module with a `Service`, added to the tuple in
`server.StorageListener`. It names the SOP classes that it offers and opens a handler for each association, which receives that
association's requests one after the other.
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
    """The peer of an association: calling AE title and address."""

    ae_title: str
    host: str


@dataclass(frozen=True, slots=True)
class DimseRequest:
    """A DIMSE request, before its data set."""

    command: Command
    context: Context


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a DIMSE request.

    Attributes
    ----------
    status
        Status (0000,0900).
    comment
        Error Comment (0000,0902): at most 64 characters, free of patient data.
    elements
        Further elements of the response, such as `Tag.ACTION_TYPE_ID`.
    data_set
        Encoded in the context's transfer syntax; None: no data set.
    """

    status: int
    comment: str = ""
    elements: Mapping[int, Value] = field(default_factory=dict)
    data_set: bytes | None = None


PROCESSING_FAILURE = Response(0x0110, "the receiver failed; see its log")
"""PS3.7 C.5.14."""
UNRECOGNISED = Response(0x0211, "operation not known for this SOP class")
"""The response to a command that no service of the SOP class knows (PS3.7 C.5.23)."""


class RequestSink(Protocol):
    """Receives the data set of one request. Exactly one of `finish` and `discard` is called, last."""

    def write(self, fragment: memoryview) -> None:
        """Receive the next fragment of the data set, which is valid during the call only."""

    def finish(self) -> Response:
        """The data set is complete (or there is none): perform the request and return the response."""

    def discard(self) -> None:
        """The association ended before the data set did."""


class Handler(Protocol):
    """One service on one association. Used by the association's thread only."""

    def begin(self, request: DimseRequest) -> RequestSink:
        """The sink for a new request."""

    def close(self, outcome: ArrivalOutcome) -> None:
        """The association has ended; called once."""


class Service(Protocol):
    """A DIMSE service, such as C-STORE of all storage SOP classes."""

    @property
    def commands(self) -> frozenset[int]:
        """Command fields that it serves, such as `CommandField.N_ACTION_RQ`."""

    @property
    def failure(self) -> Response:
        """The response when the service raises, such as `PROCESSING_FAILURE`; the log holds the cause."""

    def offers(self) -> Iterable[Offer]:
        """SOP classes that it accepts."""

    def open(self, sender: Sender) -> Handler:
        """A handler for a new association."""


class BufferedRequest:
    """Sink for a small data set: buffers it in memory, then calls `answer` with the request and the bytes.

    More than `longest` bytes are answered with resource limitation (0213H).
    """

    def __init__(self, request: DimseRequest, answer: Callable[[DimseRequest, bytes], Response], longest: int = 16 * MIB) -> None:
        self._request = request
        self._answer = answer
        self._longest = longest
        self._data = bytearray()
        self._too_long = False

    def write(self, fragment: memoryview) -> None:
        """Buffer a fragment; once there are more than `longest` bytes, drop all of them."""
        if self._too_long or len(self._data) + len(fragment) > self._longest:
            self._too_long = True
            self._data.clear()
        else:
            self._data += fragment

    def finish(self) -> Response:
        """The response that `answer` returns."""
        if self._too_long:
            return Response(RESOURCE_LIMITATION, "the data set is too long")
        return self._answer(self._request, bytes(self._data))

    def discard(self) -> None:
        """Drop the buffer."""
        self._data.clear()


class ImmediateResponse:
    """Sink for a request whose response is known before its data set, which is skipped."""

    def __init__(self, reply: Response) -> None:
        self._reply = reply

    def write(self, fragment: memoryview) -> None:
        """Skip a fragment."""

    def finish(self) -> Response:
        """The response."""
        return self._reply

    def discard(self) -> None:
        """Nothing to discard."""


class Verification:
    """C-ECHO SCP (PS3.4 Annex A). Stateless, so that one handler serves all associations."""

    commands = frozenset({int(CommandField.C_ECHO_RQ)})
    failure = PROCESSING_FAILURE

    def offers(self) -> Sequence[Offer]:
        """The Verification SOP class."""
        return (Offer(VERIFICATION, (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)),)

    def open(self, _sender: Sender) -> Verification:
        """Itself."""
        return self

    def begin(self, _request: DimseRequest) -> RequestSink:
        """Success."""
        return ImmediateResponse(Response(0x0000))

    def close(self, outcome: ArrivalOutcome) -> None:
        """Nothing to close."""
