"""How many images a series has according to the PACS that sends it: asked beside the assembler, which never waits for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from config.sources import Source
from corewatch.errors import CorewatchError

log = structlog.get_logger()

AskCount = Callable[[Source, str, str], int | None]
"""Asks a source for a study's series (UIDs); None where it does not know. Bounded in time; raises `CorewatchError`."""

ASK_AGAIN = timedelta(seconds=2)
"""A series is asked about no more often than this."""

PAUSE = timedelta(seconds=60)
"""A source that did not answer is left alone for so long."""

AT_ONCE = 2
"""Questions under way at the same time."""


@dataclass(slots=True)
class _Question:
    asked_at: datetime
    source: str
    future: Future[int | None]
    told: bool = False


class ExpectedCounts:
    """What the sources said of the series that are being received. Used by the assembler's thread.

    Parameters
    ----------
    ask
        None: nobody is asked, and nothing is ever expected.
    """

    def __init__(self, sources: Sequence[Source], ask: AskCount | None) -> None:
        self._sources = {source.ae_title: source for source in sources} if ask is not None else {}
        self._ask = ask
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="expected-count") if self._sources else None
        self._questions: dict[str, _Question] = {}
        self._paused: dict[str, datetime] = {}

    @property
    def asks(self) -> bool:
        """Whether anybody is asked at all."""
        return self._pool is not None

    def of(
        self, study_uid: str, series_uid: str, senders: Iterable[str], *, have: int, last_stored_at: datetime, now: datetime
    ) -> int | None:
        """How many images the series has, as far as is known now; asks where that is not known.

        A PACS that is still receiving the series itself knows of too few: its answer counts when it was asked after the last image
        came here, or when it speaks of more images than are here.

        Parameters
        ----------
        senders
            AE titles that sent the series.
        have
            How many images are here.
        last_stored_at
            When the last of them came.
        """
        source = next((self._sources[title] for title in senders if title in self._sources), None)
        if source is None:
            return None
        question = self._questions.get(series_uid)
        if question is not None and not question.future.done():
            return None
        if question is not None:
            count = self._answer(series_uid, question, now)
            if count is not None and (count > have or question.asked_at >= last_stored_at):
                return count
        self._ask_again(source, study_uid, series_uid, question, now)
        return None

    def answered(self) -> list[str]:
        """Series about which an answer has come since the last call."""
        found = [uid for uid, question in self._questions.items() if question.future.done() and not question.told]
        for uid in found:
            self._questions[uid].told = True
        return found

    def forget_all_but(self, receiving: set[str]) -> None:
        """Answers about series that are no longer received are of no use."""
        self._questions = {uid: q for uid, q in self._questions.items() if uid in receiving or not q.future.done()}

    def close(self) -> None:
        """Ask no more; does not wait for questions under way."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask_again(self, source: Source, study_uid: str, series_uid: str, before: _Question | None, now: datetime) -> None:
        # a wait that would last longer than it can is from before the clock was set back
        if timedelta(0) < self._paused.get(source.name, now) - now <= PAUSE:
            return
        if before is not None and timedelta(0) <= now - before.asked_at < ASK_AGAIN:
            return
        if self._pool is not None and self._ask is not None:
            future = self._pool.submit(self._ask, source, study_uid, series_uid)
            self._questions[series_uid] = _Question(now, source.name, future)

    def _answer(self, series_uid: str, question: _Question, now: datetime) -> int | None:
        error = question.future.exception()
        if error is None:
            self._paused.pop(question.source, None)
            return question.future.result()
        del self._questions[series_uid]
        if question.source not in self._paused:
            why = str(error) if isinstance(error, CorewatchError) else type(error).__name__
            log.warning("a source does not say how many images a series has", source=question.source, why=why)
        self._paused[question.source] = now + PAUSE
        return None
