"""Live streams: each change reaches every listener once, one that comes back misses nothing, a slow one loads again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ledger.store import Ledger
from portal import live
from portal.live import LiveFeed
from tests.support.ledger import queued


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.01)
    monkeypatch.setattr(live, "KEEP_ALIVE_S", 0.05)


async def events(stream: AsyncIterator[str], count: int) -> list[str]:
    """The next texts that are no sign of life."""
    found: list[str] = []
    async with asyncio.timeout(10):
        async for text in stream:
            if not text.endswith(live.ALIVE):
                found.append(text)
            if len(found) == count:
                break
    return found


def cursor(text: str) -> int:
    return int(text.partition("\n")[0].removeprefix("id: "))


def test_every_listener_gets_each_change_and_resumes(ledger: Ledger) -> None:
    async def run() -> None:
        feed = LiveFeed(ledger)
        first, second = feed.stream(None, lambda: True), feed.stream(None, lambda: True)
        for stream in (first, second):
            assert (await anext(stream)).endswith(live.ALIVE)
        case_id = await asyncio.to_thread(queued, ledger)
        seen = await events(first, 2)
        assert await events(second, 2) == seen
        assert all("event: change" in text and case_id in text for text in seen)
        again = await events(feed.stream(cursor(seen[0]), lambda: True), 1)
        assert again == seen[1:]
        assert await events(feed.stream(cursor(seen[1]) + 50, lambda: True), 1) == [f"id: {cursor(seen[1])}\n" + live.RELOAD]

    asyncio.run(run())


def test_a_quiet_stream_gives_signs_of_life_and_ends_with_its_session(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CHECK_S", 0.1)

    async def run() -> list[str]:
        async with asyncio.timeout(10):
            return [text async for text in LiveFeed(ledger).stream(None, lambda: False)]

    texts = asyncio.run(run())
    assert len(texts) > 1
    assert all(text.endswith(live.ALIVE) for text in texts)


def test_a_listener_that_lags_behind_loads_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_WAITING", 3)

    async def run() -> list[str]:
        stream = LiveFeed(ledger).stream(None, lambda: True)
        await anext(stream)
        for number in range(3):
            await asyncio.to_thread(queued, ledger, f"1.{number}")
        await asyncio.sleep(0.3)
        async with asyncio.timeout(10):
            return [text async for text in stream]

    assert asyncio.run(run())[-1] == live.RELOAD


def test_nothing_reads_the_ledger_when_nobody_listens(ledger: Ledger) -> None:
    async def run() -> bool:
        feed = LiveFeed(ledger)
        stream = feed.stream(None, lambda: True)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)
        assert feed._reader is not None
        return feed._reader.done()

    assert asyncio.run(run())
