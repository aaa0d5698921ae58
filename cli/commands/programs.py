"""`corewatch listen`, `watch`, `work`, `flower`, `portal`: one program each, as systemd, Compose or `corewatch up` start them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import chosen_file, config_option, settings_of

if TYPE_CHECKING:
    from config.settings import Settings


@click.command()
@config_option
def listen(config_file: Path | None) -> None:
    """Run the DICOM listener: receives series by C-STORE, answers C-ECHO."""
    from cli.data_folder import make_private
    from config.logging import configure_logging
    from dicom_listener.program import serve

    settings = settings_of(config_file)
    configure_logging(settings.log, "listen")
    make_private(settings.data_dir)
    _publish(settings, config_file, "listen")
    serve(settings)


@click.command()
@config_option
def watch(config_file: Path | None) -> None:
    """Run the watch folders, the assembler and the scheduler.

    Makes cases of what has arrived, and publishes their tasks to the queue.
    """
    from cli.data_folder import broker_url, make_private
    from config.logging import configure_logging
    from daemon.program import serve
    from jobs.app import make_app
    from jobs.publishing import Publisher

    settings = settings_of(config_file)

    configure_logging(settings.log, "watch")
    make_private(settings.data_dir)
    _publish(settings, config_file, "watch")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # our own messages hold its facts
    publisher = Publisher(make_app(broker_url(settings), settings.work.limits))
    serve(settings, publisher)


@click.command()
@click.option("--queues", metavar="A,B", default="prepare,detect,deliver", show_default=True, help="Which queues to work on.")
@config_option
def work(config_file: Path | None, queues: str) -> None:
    """Run a worker.

    `prepare` needs processors, `detect` the model (and a GPU, where there is one), `deliver` the network.
    """
    from cli.data_folder import broker_url, make_private
    from config.logging import configure_logging
    from worker.program import serve

    settings = settings_of(config_file)
    chosen = tuple(dict.fromkeys(name.strip() for name in queues.split(",") if name.strip()))
    name = "work-" + "-".join(chosen)
    configure_logging(settings.log, name)
    make_private(settings.data_dir)
    _publish(settings, config_file, name)
    serve(settings, broker_url(settings), chosen)


@click.command()
@config_option
def flower(config_file: Path | None) -> None:
    """Run the queue's web monitor (Flower), read-only.

    User and password are `flower.user` and `flower.password`; without a password one is generated and kept in the data folder.
    """
    from cli.data_folder import broker_url, flower_password, make_private
    from cli.flower_monitor import serve
    from cli.running import outdated_sentences
    from config.logging import configure_logging
    from jobs.app import make_app

    settings = settings_of(config_file)
    configure_logging(settings.log, "flower")
    make_private(settings.data_dir)
    _publish(settings, config_file, "flower")
    serve(
        make_app(broker_url(settings), settings.work.limits),
        settings.flower,
        flower_password(settings),
        settings.data_dir / "flower-history",
        lambda: outdated_sentences(settings.data_dir),
    )


@click.command()
@config_option
def portal(config_file: Path | None) -> None:
    """Run the portal: the pages that links in mails open, with a case's state and the acknowledgement of its alert."""
    from cli.data_folder import make_private
    from config.logging import configure_logging
    from portal.program import serve

    settings = settings_of(config_file)
    configure_logging(settings.log, "portal")
    make_private(settings.data_dir)
    _publish(settings, config_file, "portal")
    serve(settings)


def _publish(settings: Settings, config_file: Path | None, program: str) -> None:
    """Publish the settings and the version that this program runs with; SIGHUP only names what a restart would change."""
    import atexit
    import signal

    from cli.running import log_changes
    from config.running_programs import publish

    publication = publish(settings, chosen_file(config_file), program)
    if publication is not None:
        atexit.register(publication.withdraw)

    def on_hangup(*_: object) -> None:
        log_changes(settings, program)

    signal.signal(signal.SIGHUP, on_hangup)
    if program.startswith("work"):
        from celery import signals

        # Celery would start itself again by another command line than ours
        signals.worker_ready.connect(lambda **_: signal.signal(signal.SIGHUP, on_hangup), weak=False)
