"""What `corewatch up` tells the administrator when everything runs."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass

from cli.credentials import password_file
from config.settings import Settings
from corewatch import RESEARCH_LABEL


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the programs can be reached, and where results go."""

    ae_title: str
    listener: str
    watch_folders: tuple[str, ...]
    destinations: tuple[str, ...]
    flower: str
    flower_user: str
    flower_password_file: str | None
    data_dir: str
    model: str
    notice: str = RESEARCH_LABEL


def addresses_of(settings: Settings) -> Addresses:
    """Collect them from the settings."""
    deliver, flower = settings.deliver, settings.flower
    destinations = [f"PACS {pacs.name} ({pacs.ae_title} at {pacs.host}:{pacs.port})" for pacs in deliver.pacs]
    if deliver.folder is not None:
        destinations.append(f"folder {deliver.folder.path}")
    if deliver.email is not None:
        destinations.append(f"e-mail by {deliver.email.host}:{deliver.email.port}")
    return Addresses(
        ae_title=settings.listener.ae_title,
        listener=f"{settings.listener.host}:{settings.listener.port}",
        watch_folders=tuple(str(folder.path) for folder in settings.watch.folders),
        destinations=tuple(destinations),
        flower=f"http://{flower.host}:{flower.port}",
        flower_user=flower.user,
        flower_password_file=None if flower.password is not None else str(password_file(settings.data_dir)),
        data_dir=str(settings.data_dir),
        model=settings.model.name,
    )


def text_of(addresses: Addresses, *, as_json: bool) -> str:
    """A small table, or one line of JSON."""
    if as_json:
        return json.dumps(asdict(addresses)) + "\n"
    from rich.console import Console
    from rich.table import Table

    table = Table(title="corewatch is running", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("DICOM listener", f"{addresses.ae_title} at {addresses.listener}")
    for folder in addresses.watch_folders:
        table.add_row("Watch folder", folder)
    for destination in addresses.destinations:
        table.add_row("Results go to", destination)
    kept = f", password in {addresses.flower_password_file}" if addresses.flower_password_file else ""
    table.add_row("Queue monitor", f"{addresses.flower} (user {addresses.flower_user}{kept})")
    table.add_row("Model", addresses.model)
    table.add_row("Data", addresses.data_dir)
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(table)
        console.print(addresses.notice, style="yellow")
    return captured.get()


def say(text: str) -> bool:
    """Write to standard output; where nobody reads it any more, turn it off and return False, since that is no reason to stop."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError):
        # what is left in the buffer would fail once more at the end of the program, and spoil its exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return False
    return True
