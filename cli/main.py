"""Entry point of `corewatch`: the list of its commands and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from cli.command_group import CommandEntry, LazyGroup
from cli.data_folder import restrict_new_files
from cli.options import config_option
from corewatch import RESEARCH_LABEL, __version__

SECTIONS = {
    "Service": {
        "up": CommandEntry("Run everything: listener, watch folder, workers, queue monitor.", "cli.commands.up:up"),
        "reload": CommandEntry("Apply changed settings: restart the programs that they concern.", "cli.commands.reload:reload"),
        "listen": CommandEntry("Only the DICOM listener (Storage SCP).", "cli.commands.programs:listen"),
        "watch": CommandEntry("Only the watch folders and the scheduler.", "cli.commands.programs:watch"),
        "work": CommandEntry("Only a worker, for some or all queues.", "cli.commands.programs:work"),
        "flower": CommandEntry("Only the queue's web monitor (Flower).", "cli.commands.programs:flower"),
        "portal": CommandEntry("Only the pages that links in mails lead to.", "cli.commands.programs:portal"),
    },
    "Images": {
        "run": CommandEntry("Analyse one case here and now: DICOM folder, zip or NIfTI.", "cli.commands.run:run"),
        "pull": CommandEntry("Fetch a study from a PACS that did not send it (C-FIND, C-MOVE or C-GET).", "cli.commands.pull:pull"),
        "send": CommandEntry("Send a folder of DICOM files by C-STORE.", "cli.commands.send:send"),
        "demo": CommandEntry("Show the whole path on a synthetic head.", "cli.commands.demo:demo"),
    },
    "Operation": {
        "cases": CommandEntry("List, show, retry or cancel cases.", "cli.commands.cases:cases"),
        "users": CommandEntry("Add, list or disable users of the portal; passwords, links, tokens.", "cli.commands.users:users"),
        "audit": CommandEntry("Show or export the audit trail.", "cli.commands.audit:audit"),
        "backup": CommandEntry("Back up ledger, images, cases and keys while programs run.", "cli.commands.backup:backup"),
        "restore": CommandEntry("Restore a backup into an empty data folder.", "cli.commands.backup:restore"),
        "doctor": CommandEntry("Check this installation; names each problem's remedy.", "cli.commands.doctor:doctor"),
        "config": CommandEntry("Show or check the settings.", "cli.commands.config:config"),
        "model": CommandEntry("Install, list or verify models.", "cli.commands.model:model"),
    },
}

EPILOG = (
    "Settings: --config F, else ./corewatch.yaml, else /etc/corewatch/corewatch.yaml, else built-in values; any key also from the "
    "environment as COREWATCH__SECTION__KEY.\n\n"
    "Exit codes: 0 done, 2 usage or settings, 3 not analysed, 4 failed.\n\n"
    f"{RESEARCH_LABEL}."
)


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="corewatch", message=f"%(prog)s %(version)s ({RESEARCH_LABEL})")
@config_option
def corewatch(config_file: Path | None) -> None:
    """Watches for CT angiographies of the head beside the PACS and estimates the ischemic core of a stroke.

    Series arrive by C-STORE or in a watch folder; results go back to the PACS, into a folder and by e-mail.
    """


def main() -> None:
    """Run the command line and exit."""
    _open_standard_streams()
    restrict_new_files()
    corewatch(prog_name="corewatch")


def _open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed, so that no file that is opened later gets its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
