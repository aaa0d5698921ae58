"""TLS for the listener, by the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12)."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from config.section import TlsFiles
from corewatch.errors import ConfigurationError

log = structlog.get_logger()

TLS_1_2_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
"""RFC 9325 4.2: ephemeral keys and authenticated encryption only. Those of TLS 1.3 are all of that kind."""


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or later; the peer must present a certificate of our authority.

    Raises
    ------
    ConfigurationError
        A file is missing or invalid.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ciphers(":".join(TLS_1_2_CIPHERS))
    # no resumption: each association verifies its certificate, also after it expired or its authority was removed
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except OSError as error:
        raise ConfigurationError(
            f"listener.tls: {error.strerror or error}", "certificate, key and authority must be PEM files that belong together"
        ) from error
    return context


class ServerTls:
    """TLS context that is reloaded when its files change, so that renewed certificates need no restart. Used by one thread.

    If the changed files cannot be used, such as a new certificate with the old key, the earlier context stays in use; logged once.

    Raises
    ------
    ConfigurationError
        From the constructor: the files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        # before the files are read: a change in the meantime is noticed next time
        self._seen = self._stamps()
        self._context = server_context(files)

    def current(self) -> ssl.SSLContext:
        """The context of the current files, or of the last usable ones."""
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            try:
                self._context = server_context(self._files)
            except ConfigurationError as error:
                log.error("certificates_not_renewed", problem=str(error), in_use="the earlier certificates")
            else:
                log.info("certificates_renewed", certificate=str(self._files.certificate))
        return self._context

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._files.certificate, self._files.key, self._files.authority))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
