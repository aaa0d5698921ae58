"""The PACS in `sources` as peers of our DICOM client, and the query for the number of instances of a series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from config.settings import Settings
from config.sources import Source
from foundation.dicom_client.association import PeerAddress, TlsFiles
from foundation.dicom_client.query import find_series

COUNT_TIMEOUT_S = 5.0
"""Longest wait for the number of instances: a later answer is of no use."""


def peer_of(source: Source, settings: Settings, *, silence_s: float | None = None) -> PeerAddress:
    """The address of a source, and the AE title that we use towards it."""
    tls = None if source.tls is None else TlsFiles(source.tls.certificate, source.tls.key, source.tls.authority)
    calling = source.our_ae_title or settings.listener.ae_title
    return PeerAddress(source.host, source.port, source.ae_title, calling, source.timeout_s, tls, silence_s=silence_s)


def instance_count_query(settings: Settings) -> Callable[[Source, str, str], int | None] | None:
    """A function that queries a source for the number of instances of a series; None if the settings want no queries."""
    if not settings.asked_sources:
        return None

    def count(source: Source, study_uid: str, series_uid: str) -> int | None:
        peer = replace(peer_of(source, settings), timeout_s=min(source.timeout_s, COUNT_TIMEOUT_S))
        return next((series.instances for series in find_series(peer, study_uid, series_uid)), None)

    return count
