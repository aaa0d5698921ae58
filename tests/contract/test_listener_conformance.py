"""Our listener beside DCMTK's storescp: the same conversations, byte by byte, with two running servers.

Every difference is listed with the clause that says who is right (`tests.support.conversations.differences`): a new one fails, and
so does a listed one that is gone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import REQUIRE_SERVERS
from tests.support.conformance import LEFT_OPEN, transcripts
from tests.support.conversations import CONVERSATIONS, MAX_PDU
from tests.support.conversations.differences import BOTH_MAY, DCMTK, DIFFERENCES, OURS, explained
from tests.support.listener import listener_settings
from tests.support.listener_program import program
from tests.support.net import answers, free_port, wait_for

DCMTK_VERSION = "v3.6.7"
"""Whose answers are listed."""
TIMERS = {"dicom_listener.association.NEGOTIATION_TIMEOUT_S": 1.0, "dicom_listener.association.CLOSE_TIMEOUT_S": 1.0}
LEAST = 400
REPEATS = 3

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def answers_of_both(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """Name of each conversation -> what the listener, in its own process, sent; the same of storescp.

    The timers of both servers run in real time. A machine that stands still for longer than a timer makes a server end a
    conversation that goes on, so what differs from the list is held again, alone, before it counts.
    """
    binary = tool("storescp")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    if DCMTK_VERSION not in version:
        message = f"the answers of DCMTK {DCMTK_VERSION} are listed, and {version.split()[2]} is installed"
        pytest.fail(message) if REQUIRE_SERVERS else pytest.skip(message)
    listed = explained()
    left_open = {name for name, (_, answer) in listed.items() if answer.endswith(LEFT_OPEN)}
    settings = listener_settings(
        tmp_path_factory.mktemp("listener"),
        port=free_port(),
        max_pdu_bytes=MAX_PDU,
        idle_timeout_s=1,
        max_associations=100,
        max_associations_per_peer=None,
    )
    with program(settings, constants=TIMERS), storescp(binary, tmp_path_factory.mktemp("storescp")) as port:
        ours = transcripts(settings.listener.port, CONVERSATIONS)
        theirs = transcripts(port, CONVERSATIONS, left_open)
        for _ in range(REPEATS):
            for conversation in CONVERSATIONS:
                name = conversation.name
                if not as_listed(listed.get(name), (ours[name], theirs[name])):
                    ours |= transcripts(settings.listener.port, [conversation])
                    theirs |= transcripts(port, [conversation], left_open)
    return ours, theirs


def as_listed(listed: tuple[str, str] | None, pair: tuple[str, str]) -> bool:
    """Whether two answers differ in the way that the list says, or agree where it says nothing."""
    return pair == listed if listed else pair[0] == pair[1]


@pytest.fixture
def ours(answers_of_both: tuple[dict[str, str], dict[str, str]]) -> dict[str, str]:
    return answers_of_both[0]


@pytest.fixture
def theirs(answers_of_both: tuple[dict[str, str], dict[str, str]]) -> dict[str, str]:
    return answers_of_both[1]


@contextmanager
def storescp(binary: str, folder: Path) -> Iterator[int]:
    """A storescp with timers of a second that keeps nothing; its port."""
    port = free_port()
    options = ["--fork", "--ignore", "-od", str(folder), "-aet", "COREWATCH", "-ta", "1", "-td", "1", "-pdu", str(MAX_PDU)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([binary, *options, str(port)], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for("storescp", lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(20)


def test_every_difference_is_explained_and_every_explanation_holds(ours: dict[str, str], theirs: dict[str, str]) -> None:
    differences = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    listed = explained()
    unexplained = {name: pair for name, pair in differences.items() if listed.get(name) != pair}
    vanished = {name: (listed[name], (ours.get(name), theirs.get(name))) for name in listed if name not in differences}
    assert (unexplained, vanished) == ({}, {})


def test_ours_ends_every_conversation(ours: dict[str, str]) -> None:
    assert [name for name, transcript in ours.items() if LEFT_OPEN in transcript] == []


def test_there_are_several_hundred_conversations() -> None:
    assert len({c.name for c in CONVERSATIONS}) == len(CONVERSATIONS) >= LEAST


def test_every_explanation_names_a_clause_and_who_is_right() -> None:
    for difference in DIFFERENCES:
        assert difference.clause.startswith("PS3.")
        assert difference.right in (OURS, DCMTK, BOTH_MAY)
        assert difference.why
