"""Checks of the systems that corewatch talks to: sources, destinations, storage commitment, audit record repository."""

from __future__ import annotations

from collections.abc import Iterator

from cli.checks.report import Check
from config.settings import Settings
from corewatch.destinations import ONLY_NOTICES
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


def destinations(settings: Settings) -> Iterator[Check]:
    """Every destination answers: C-ECHO, a login at the mail server, a file in the results folder."""
    from worker.delivery.destinations import destinations_of

    known = destinations_of(settings)
    if not known:
        yield Check.error(
            "destinations", "there are none: results would go nowhere", "set deliver.pacs, deliver.folder or deliver.email"
        )
    for name, destination in known.items():
        if name in ONLY_NOTICES:  # the same server as `email` and `webhook`
            continue
        subject = f"to {name}"
        try:
            destination.check()
        except CorewatchError as error:
            yield Check.of_error(subject, error, f"correct deliver.{name}")
        else:
            yield Check.ok(subject, "answers")
    if settings.deliver.email is None:
        yield Check.warning("to e-mail", "no mail server is set: nobody is alerted", "set deliver.email")


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


def audit(settings: Settings) -> Iterator[Check]:
    """The audit record repository answers over TLS that can be trusted."""
    to = settings.audit.syslog
    if to is None:
        return
    from daemon.upkeep.syslog import send

    try:
        send(to, ())
    except CorewatchError as error:
        yield Check.of_error("audit", error, "correct audit.syslog")
    else:
        yield Check.ok("audit", f"the audit repository at {to.host}:{to.port} answers")
