"""Conversations for an acceptor of associations: what a client sends, byte by byte, generated as one table (`CONVERSATIONS`).

A conversation is a sequence of steps. After each step but the last the client waits for one PDU; after the last it closes its half
of the connection (or not, where a timer is tried) and reads to the end. So a transcript never depends on timing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.conversations.base import ECHO, MAX_PDU, RELEASE, REQUEST, Conversation, sent
from tests.support.conversations.messages import commands, messages
from tests.support.conversations.requests import (
    application_contexts,
    fixed_fields,
    framing,
    presentation_contexts,
    user_information,
)
from tests.support.conversations.states import STATES, pdus_by_state

__all__ = ["CONVERSATIONS", "MAX_PDU", "Conversation"]


def conversations() -> Iterator[Conversation]:
    """Every conversation once."""
    for requests in (fixed_fields(), application_contexts(), presentation_contexts(), user_information(), framing()):
        for name, request in requests:
            yield Conversation(name, (request, RELEASE))
    for name, steps in pdus_by_state():
        yield Conversation(name, steps)
    for talks in (messages(), commands()):
        for name, talk in talks:
            yield Conversation(name, (REQUEST, talk))
    for state, steps in STATES.items():
        yield Conversation(f"{state}: silence", (*steps, b""), half_close=False)
    yield Conversation("Sta2: silence within a head", (REQUEST[:3],), half_close=False)
    yield Conversation("Sta2: silence within a request", (REQUEST[:100],), half_close=False)
    yield Conversation("Sta6: silence within a PDU", (REQUEST, sent(ECHO)[:20]), half_close=False)


CONVERSATIONS = tuple(conversations())
