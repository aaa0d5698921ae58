"""Syslog over TLS (RFC 5425) so that a batch is known to have been read.

The protocol has no answers: what is written into a connection that breaks is lost without a word. So each batch ends with TLS's own
farewell, and counts as sent only when the server has answered that, which it does after everything before it (RFC 5425 4.4; rsyslog
does).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from config.audit import SyslogSettings
from corewatch.errors import OperatorNeeded, RetryLater


class Unconfirmed(RetryLater):
    """Everything was written, and the server closed the connection in order but without TLS's farewell: it has probably read it."""


def send(settings: SyslogSettings, frames: Sequence[bytes]) -> None:
    """Send frames in order over one connection.

    Raises
    ------
    Unconfirmed, RetryLater, OperatorNeeded
        Nobody knows how many of them arrived; all are to be sent again.
    """
    where = f"audit repository {settings.host}:{settings.port}"
    try:
        with socket.create_connection((settings.host, settings.port), settings.timeout_s) as plain:
            secured = _context(settings).wrap_socket(plain, server_hostname=settings.host)
            with secured:
                secured.sendall(b"".join(frames))
                try:
                    secured.unwrap()
                except ssl.SSLEOFError:
                    raise Unconfirmed(
                        f"{where} closes without TLS's farewell, which RFC 5425 4.4 asks of it", "use one that answers (rsyslog)"
                    ) from None
    except ssl.SSLCertVerificationError as error:
        raise OperatorNeeded(
            f"the certificate of {where} cannot be trusted ({error.verify_message})", "check its authority"
        ) from None
    except ssl.SSLEOFError:
        raise RetryLater(f"{where} broke off without TLS's farewell", "look at its log") from None
    except ssl.SSLError as error:
        raise OperatorNeeded(f"no TLS with {where} ({error.reason})", "check audit.syslog (port, certificate and key)") from None
    except OSError as error:
        raise RetryLater(
            f"{where} cannot be reached or broke off ({type(error).__name__})", "check host, port and firewall"
        ) from None


def _context(settings: SyslogSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if settings.authority is None else str(settings.authority))
    if settings.certificate is not None:
        context.load_cert_chain(str(settings.certificate), None if settings.key is None else str(settings.key))
    return context
