"""Expected number of instances of a series: queried from the sending PACS in the background, so that the assembler never waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

import structlog

from config.settings import Settings
from config.sources import Source
from corewatch.errors import CorewatchError
from foundation.backoff import Backoff, RetryTimer

log = structlog.get_logger()

CountInstances = Callable[[Source, str, str], int | None]
"""Queries a source for the number of instances of a series (study and series UID); None when it does not know.

Bounded in time; raises `CorewatchError`."""

QUERY_INTERVAL = timedelta(seconds=2)
"""Shortest time between two queries about one series."""

BACKOFF = Backoff.constant(60.0)
"""Pause after a source did not answer."""

QUERY_TIMEOUT_S = 5.0
"""Longest wait for an answer: a later one is of no use."""

MAX_CONCURRENT = 2
"""Concurrent queries."""


@dataclass(slots=True)
class _Query:
    sent_at: datetime
    source: str
    future: Future[int | None]
    reported: bool = False


class ExpectedCounts:
    """Answers of the sources about the series that are being received. Used by the assembler's thread.

    Parameters
    ----------
    count
        None: no source is queried, and no count is ever known.
    """

    def __init__(self, sources: Sequence[Source], count: CountInstances | None) -> None:
        self._sources = {source.ae_title: source for source in sources} if count is not None else {}
        self._count = count
        self._pool = ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="expected-count") if self._sources else None
        self._queries: dict[str, _Query] = {}
        self._retries = defaultdict[str, RetryTimer](lambda: RetryTimer(BACKOFF))  # by source

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Queries the sources that the settings name."""
        return cls(settings.queried_sources, query_over_network(settings.listener.ae_title))

    @property
    def enabled(self) -> bool:
        """Whether any source is queried at all."""
        return self._pool is not None

    def of(
        self, study_uid: str, series_uid: str, senders: Iterable[str], *, have: int, last_stored_at: datetime, now: datetime
    ) -> int | None:
        """Number of instances of the series, or None while it is not known; then a query is sent.

        A PACS that is still receiving the series itself answers with too few. Its answer counts when the query was sent after the
        last instance was received here, or when it is more than were received here.

        Parameters
        ----------
        senders
            AE titles that sent the series.
        have
            Number of instances received here.
        last_stored_at
            When the last of them was received.
        """
        source = next((self._sources[title] for title in senders if title in self._sources), None)
        if source is None:
            return None
        query = self._queries.get(series_uid)
        if query is not None and not query.future.done():
            return None
        if query is not None:
            count = self._answer(series_uid, query, now)
            if count is not None and (count > have or query.sent_at >= last_stored_at):
                return count
        self._send_query(source, study_uid, series_uid, query, now)
        return None

    def answered(self) -> list[str]:
        """Series whose query was answered since the last call."""
        found = [uid for uid, query in self._queries.items() if query.future.done() and not query.reported]
        for uid in found:
            self._queries[uid].reported = True
        return found

    def forget_all_but(self, receiving: set[str]) -> None:
        """Drop the answers about all other series."""
        self._queries = {uid: q for uid, q in self._queries.items() if uid in receiving or not q.future.done()}

    def close(self) -> None:
        """Stop querying; does not wait for queries in progress."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _send_query(self, source: Source, study_uid: str, series_uid: str, before: _Query | None, now: datetime) -> None:
        if not self._retries[source.name].is_due(now):
            return
        if before is not None and timedelta(0) <= now - before.sent_at < QUERY_INTERVAL:
            return
        if self._pool is not None and self._count is not None:
            future = self._pool.submit(self._count, source, study_uid, series_uid)
            self._queries[series_uid] = _Query(now, source.name, future)

    def _answer(self, series_uid: str, query: _Query, now: datetime) -> int | None:
        error, retry = query.future.exception(), self._retries[query.source]
        if error is None:
            retry.succeeded()
            return query.future.result()
        del self._queries[series_uid]
        if not retry.failures:
            why = str(error) if isinstance(error, CorewatchError) else type(error).__name__
            log.warning("expected_count_unknown", source=query.source, why=why)
        retry.failed(now)
        return None


def query_over_network(listener_ae_title: str) -> CountInstances:
    """Queries a source by C-FIND, with the listener's AE title unless the source has one for us."""

    def count(source: Source, study_uid: str, series_uid: str) -> int | None:
        # imported when first needed: most sites query no source
        from foundation.dicom_client.query import find_series

        peer = replace(source.address(listener_ae_title), timeout_s=min(source.timeout_s, QUERY_TIMEOUT_S))
        return next((series.instances for series in find_series(peer, study_uid, series_uid)), None)

    return count
