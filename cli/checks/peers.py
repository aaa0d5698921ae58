"""Checks of the systems that corewatch talks to: sources, destinations, storage commitment, audit record repository."""

from __future__ import annotations

from collections.abc import Iterator

from cli.checks.report import Check
from config.settings import Settings
from corewatch.destinations import is_only_notice
from corewatch.errors import CorewatchError


def sources(settings: Settings) -> Iterator[Check]:
    """Every source answers, and accepts our queries and retrievals."""
    from foundation.dicom_client.retrieve import check_query_retrieve

    for source in settings.sources:
        subject = f"from {source.name}"
        try:
            check_query_retrieve(source.address(settings.listener.ae_title), source.retrieve)
        except CorewatchError as error:
            yield Check.of_error(subject, error, f"correct {source.name} in sources")
            continue
        except Exception as error:  # the next source is checked all the same
            yield Check.of_failure(subject, error)
            continue
        ours = settings.listener
        node = f"; to send, it needs a DICOM node {ours.ae_title} with port {ours.port}" if source.retrieve == "move" else ""
        yield Check.ok(subject, f"answers, and accepts C-FIND and C-{source.retrieve.upper()}{node}")


def destinations(settings: Settings) -> Iterator[Check]:
    """Every destination takes what will be sent: SOP classes, sender and recipients, a file in the results folder."""
    from worker.context import destinations_of

    known = destinations_of(settings)
    if not known:
        yield Check.error(
            "destinations", "none is set: results are sent nowhere", "set deliver.pacs, deliver.folder or deliver.email"
        )
    for name, destination in known.items():
        if is_only_notice(name):  # the same server as `email` and `webhook`
            continue
        subject = f"to {name}"
        try:
            destination.check()
        except CorewatchError as error:
            yield Check.of_error(subject, error, f"correct deliver.{name}")
        except Exception as error:  # the next destination is checked all the same
            yield Check.of_failure(subject, error)
        else:
            yield Check.ok(subject, "answers, and takes what will be sent")
    if settings.deliver.email is None:
        yield Check.warning("to e-mail", "no mail server is set: nobody gets alerts", "set deliver.email")


def commitment(settings: Settings) -> Iterator[Check]:
    """A PACS that confirms results (storage commitment) may open an association to us."""
    peers = {peer.ae_title for peer in settings.listener.peers}
    for pacs in settings.deliver.pacs:
        if pacs.commitment and pacs.ae_title not in peers:
            yield Check.warning(
                "commitment",
                f"{pacs.name} cannot send its confirmations: {pacs.ae_title} is not in listener.peers",
                f"add {{ae_title: {pacs.ae_title}, host: {pacs.host}}} to listener.peers, or have it answer on our association",
            )


def audit(settings: Settings) -> Iterator[Check]:
    """The audit record repository answers, and its TLS certificate is trusted."""
    repository = settings.audit.syslog
    if repository is None:
        return
    from daemon.upkeep.audit_forwarding import send_syslog

    try:
        send_syslog(repository, ())
    except CorewatchError as error:
        yield Check.of_error("audit", error, "correct audit.syslog")
    else:
        yield Check.ok("audit", f"the audit repository at {repository.host}:{repository.port} answers")
