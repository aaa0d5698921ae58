"""Transcripts of conversations with an acceptor of associations: what it sent, in words, until it closed the connection."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.support.conversations import Conversation
from tests.support.wire import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, CLOSED, DATA, RELEASE_RP, RawPeer, raw_peer

LIMIT_S = 30.0
"""A server that neither answers nor closes the connection within this time leaves it open."""
LEFT_OPEN = "left open"
_AT_ONCE = 12
_WAITING_AT_ONCE = 60
_LIMIT_OF_LEFT_OPEN_S = 2.5
"""Longer than the timers of both servers."""
_SYNTAXES = {ImplicitVRLittleEndian: "ILE", ExplicitVRLittleEndian: "ELE", ExplicitVRBigEndian: "EBE"}


def transcripts(port: int, conversations: Iterable[Conversation], left_open: Collection[str] = ()) -> dict[str, str]:
    """Play each conversation on its own connection; name -> what the server sent.

    Parameters
    ----------
    left_open
        Names of conversations after which the server is known not to close the connection: these are not waited for as long, and
        all at the same time. A server that does close is noticed all the same.
    """
    with ThreadPoolExecutor(_WAITING_AT_ONCE) as waiting, ThreadPoolExecutor(_AT_ONCE) as pool:
        playing = {
            c.name: waiting.submit(play, port, c, _LIMIT_OF_LEFT_OPEN_S) if c.name in left_open else pool.submit(play, port, c)
            for c in conversations
        }
        return {name: future.result() for name, future in playing.items()}


def play(port: int, conversation: Conversation, limit_s: float = LIMIT_S) -> str:
    """What the server sent, each PDU in words, in their order; `LEFT_OPEN` last where it does not close the connection."""
    with raw_peer(port, limit_s) as peer:
        return ", ".join(_until_abort(_received(peer, conversation))) or "nothing"


def _received(peer: RawPeer, conversation: Conversation) -> Iterator[str]:
    try:
        for step in conversation.steps[:-1]:
            peer.send(step)
            received = peer.read()
            if received == CLOSED:
                break
            yield describe(*received)
        peer.send(conversation.steps[-1])
        if conversation.half_close:
            peer.shut()
        while (received := peer.read()) != CLOSED:
            yield describe(*received)
    except TimeoutError:
        yield LEFT_OPEN


def _until_abort(received: Iterable[str]) -> Iterator[str]:
    """Nothing after the first A-ABORT: a client that receives one closes the connection (PS3.8 9.2, AA-3)."""
    aborted = False
    for words in received:
        if not aborted or words == LEFT_OPEN:
            yield words
        aborted |= words.startswith("ABORT")


def describe(kind: int, body: bytes) -> str:
    """One PDU in words, without what differs between two servers that behave alike (names, maximum lengths)."""
    match kind:
        case _ if kind == ASSOCIATE_AC:
            return f"AC {_acceptance(body)}"
        case _ if kind == ASSOCIATE_RJ:
            return f"RJ {body[1]}/{body[2]}/{body[3]}"
        case _ if kind == DATA:
            return _response(body)
        case _ if kind == RELEASE_RP:
            return "RP"
        case _ if kind == ABORT:
            return f"ABORT {body[2]}/{body[3]}"
    return f"PDU {kind}"


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, length = struct.unpack_from(">BxH", data, position)
        yield kind, data[position + 4 : position + 4 + length]
        position += 4 + length


def _acceptance(body: bytes) -> str:
    words = []
    for kind, value in _items(body[68:]):
        if kind == 0x21:
            syntax = next((v.rstrip(b"\0").decode("latin-1") for k, v in _items(value[4:]) if k == 0x40), "")
            words.append(f"{value[0]}={_SYNTAXES.get(syntax, syntax) if value[2] == 0 else f'refused {value[2]}'}")
        elif kind == 0x50:
            words += [f"role {v[-2]}{v[-1]}" for k, v in _items(value) if k == 0x54]
            words += [f"item {k:02X}" for k, _ in _items(value) if k not in (0x51, 0x52, 0x54, 0x55)]
    if len(words) > 8:
        words = [f"{len(words)} contexts" if len({w.partition("=")[2] for w in words}) == 1 else "various"]
    return " ".join(words)


def _response(body: bytes) -> str:
    elements, position = {}, 6
    while position < len(body):
        _, number, length = struct.unpack_from("<HHL", body, position)
        elements[number] = int.from_bytes(body[position + 8 : position + 8 + length][:2], "little")
        position += 8 + length
    return f"RSP {elements.get(0x0100, 0):04X} {elements.get(0x0900, 0):04X}"
