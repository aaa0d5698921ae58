"""Whether the listener still hears: a process may live and be deaf.

Accepting a TCP connection says nothing, since the kernel does that for a process that hangs, too. So an association is asked for;
to be refused is an answer as well.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Final

from config.settings import Settings

ANSWER_LIMIT_S: Final = 5.0
"""A listener that answers later than this counts as deaf at that moment."""

ASK_EVERY_S: Final = 15.0
DEAF_AFTER: Final = 4
"""So many questions in a row without an answer: a minute in which it may also have been busy starting."""

_ANY: Final = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


def hears(settings: Settings) -> bool:
    """Whether the listener answers to an association request (PS3.8), or with TLS to a handshake."""
    listener = settings.listener
    host = _ANY.get(listener.host, listener.host)
    if listener.tls is not None:
        return _shakes_hands(host, listener.port)
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification

    from foundation.dicom_client.association import Heard

    heard = Heard()
    entity = AE(ae_title="COREWATCH-UP")
    entity.add_requested_context(Verification)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ANSWER_LIMIT_S
    association = entity.associate(host, listener.port, ae_title=listener.ae_title, evt_handlers=heard.handlers)
    if association.is_established:
        association.release()
        return True
    return heard.rejection is not None


def _shakes_hands(host: str, port: int) -> bool:
    """Whether anything comes back to a TLS hello; that our certificate is missing is an answer too."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=ANSWER_LIMIT_S) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError:
        return True
    except OSError:
        return False


class HealthWatch(threading.Thread):
    """Asks again and again, in a thread of its own, and calls `on_deaf` when no answer came for long.

    Parameters
    ----------
    ask
        One question, bounded in time.
    wait
        Waits for so many seconds; True ends the watch.
    """

    def __init__(self, ask: Callable[[], bool], on_deaf: Callable[[], None], wait: Callable[[float], bool]) -> None:
        super().__init__(name="health", daemon=True)
        self._ask = ask
        self._on_deaf = on_deaf
        self._wait = wait

    def run(self) -> None:
        """Ask until it is time to end."""
        unanswered = 0
        while not self._wait(ASK_EVERY_S):
            unanswered = 0 if self._ask() else unanswered + 1
            if unanswered >= DEAF_AFTER:
                unanswered = 0
                self._on_deaf()
