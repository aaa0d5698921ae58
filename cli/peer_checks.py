"""Startup checks of what other systems must know and allow: the archives that we ask, and storage commitment both ways."""

from __future__ import annotations

from collections.abc import Iterator

from config.checks import Check
from config.settings import Settings
from corewatch.errors import CorewatchError


def sources(settings: Settings) -> Iterator[Check]:
    """Every source answers, and takes queries and retrieval from us."""
    from dicom_listener.query import peer_of
    from dicom_listener.retrieve import check

    for source in settings.sources:
        subject = f"from {source.name}"
        try:
            check(peer_of(source, settings), source.retrieve)
        except CorewatchError as error:
            yield Check.of_error(subject, error, f"correct {source.name} in sources")
            continue
        ours = settings.listener
        node = f"; it must know us as {ours.ae_title}, port {ours.port}, to send" if source.retrieve == "move" else ""
        yield Check.ok(subject, f"answers, and takes C-FIND and C-{source.retrieve.upper()}{node}")


def commitment(settings: Settings) -> Iterator[Check]:
    """Whoever is to answer us may open an association, and whoever asks us can be answered."""
    peers = {peer.ae_title for peer in settings.listener.peers}
    for pacs in settings.deliver.pacs:
        if pacs.commitment and pacs.ae_title not in peers:
            yield Check.warning(
                "commitment",
                f"{pacs.name} may not bring its answers: listener.peers does not name {pacs.ae_title}",
                f"put {{ae_title: {pacs.ae_title}, host: {pacs.host}}} into listener.peers, or let it answer on our association",
            )
