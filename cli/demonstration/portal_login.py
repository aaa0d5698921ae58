"""Sign-in to the portal of the demonstration: a user with every role, and a link that signs in once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cli.commands.users import once_link
from corewatch.roles import Role

if TYPE_CHECKING:
    from config.settings import Settings

LOGIN: Final = "demo"
VALID_FOR: Final = timedelta(hours=12)


def sign_in_link(settings: Settings) -> str:
    """Add the user, if it is not there, and return a new link.

    Raises
    ------
    ValueError
        The settings have no portal with an address.
    """
    from ledger.store import Ledger

    if settings.portal is None or settings.portal.url is None:
        raise ValueError("the settings of the demonstration have a portal")
    ledger = Ledger(settings.database_url)
    try:
        ledger.users.add(LOGIN, "Demonstration", Role, "", LOGIN)  # without a password: signed in by the link only
        return once_link(ledger, settings.portal.url, LOGIN, VALID_FOR, LOGIN)
    finally:
        ledger.close()


def wait_for_interrupt() -> None:
    """Wait until Ctrl-C or SIGTERM."""
    try:
        threading.Event().wait()
    except (KeyboardInterrupt, SystemExit):
        return
