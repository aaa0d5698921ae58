"""Fetch a weights file by copy or download (https), within limits of size and time."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from corewatch.errors import ConfigurationError
from foundation.durable import sync_file
from worker.models.weights import MAX_FILE_BYTES

MAX_SILENCE_S: Final = 60.0
"""Socket timeout in seconds."""

MAX_DOWNLOAD_S: Final = 900.0
"""Time limit of a download in seconds; enough for the largest file at 600 kbit/s."""

_CHUNK_BYTES: Final = 1 << 20

_TOO_LARGE: Final = f"the file is larger than {MAX_FILE_BYTES} bytes: it is no weights file of a known model"
_BY_HAND: Final = "download the file by other means, then install it from there"


def fetch(source: str | Path, target: Path, *, sha256: str | None, clock: Callable[[], float] = time.monotonic) -> str:
    """Copy or download to `target`, fsynced; returns its SHA-256, lower-case hex.

    Parameters
    ----------
    source
        Path of a file, or an ``https://`` address. ``http://`` is accepted only together with `sha256`, which the caller compares.
    clock
        Monotonic seconds.

    Raises
    ------
    ConfigurationError
        The source cannot be fetched completely; the message names it as `described` does.
    OSError
        `target` cannot be written.
    """
    address = _address(source)
    if address is None:
        chunks = _of_file(Path(source))
    elif address.scheme == "http" and sha256 is None:
        raise ConfigurationError("a model over http:// needs its SHA-256 to be given, since anybody on the way could change it")
    else:
        chunks = _of_address(address, clock)
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise ConfigurationError(_TOO_LARGE)
            digest.update(chunk)
            file.write(chunk)
    sync_file(target)
    return digest.hexdigest()


def described(source: str | Path) -> str:
    """The source as text for messages and the manifest: the name of a file, or an address without its query.

    Raises
    ------
    ConfigurationError
        The address is not valid, is neither http nor https, or has a user or password.
    """
    address = _address(source)
    if address is None:
        return Path(source).name
    return urllib.parse.urlunsplit((address.scheme, address.netloc, address.path, "", ""))


def _address(source: str | Path) -> urllib.parse.SplitResult | None:
    """The parts of an address; None where the source is a path. No message quotes the address: it may contain a password."""
    if isinstance(source, Path) or "://" not in source:
        return None
    try:
        parts = urllib.parse.urlsplit(source)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError("this is no valid address", "one looks like https://host/folder/file.h5")
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"a model is taken from a file or over https, not over {parts.scheme}", _BY_HAND)
    if "@" in parts.netloc:
        raise ConfigurationError("an address with user or password is not taken", _BY_HAND)
    return parts


def _of_file(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise ConfigurationError(f"{path.name} cannot be read: {error.strerror}") from error


def _of_address(address: urllib.parse.SplitResult, clock: Callable[[], float]) -> Iterator[bytes]:
    shown = described(address.geturl())
    give_up_at = clock() + MAX_DOWNLOAD_S
    received = 0
    try:
        with _opener().open(address.geturl(), timeout=MAX_SILENCE_S) as response:
            announced: int | None = response.length
            if announced is not None and announced > MAX_FILE_BYTES:
                raise ConfigurationError(_TOO_LARGE)
            while chunk := response.read1(_CHUNK_BYTES):
                received += len(chunk)
                yield chunk
                if clock() > give_up_at:
                    raise ConfigurationError(
                        f"{shown} gave {received} bytes in {MAX_DOWNLOAD_S:.0f} s, which is too slow", _BY_HAND
                    )
    except urllib.error.HTTPError as error:
        if error.code < http.HTTPStatus.BAD_REQUEST:  # urllib's words repeat where it leads to
            raise ConfigurationError(f"{shown} redirects in a circle, or to what is no address for a model") from error
        raise ConfigurationError(f"{shown} answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            why = error.reason.verify_message
            raise ConfigurationError(
                f"{shown} is not trusted: {why}", "SSL_CERT_FILE names a file of authorities to trust"
            ) from error
        raise ConfigurationError(f"{shown} cannot be reached: {error.reason}") from error
    except http.client.IncompleteRead as error:
        raise ConfigurationError(_cut_off(shown, received)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ConfigurationError(f"{shown} cannot be read: {error}") from error
    if announced is not None and received < announced:  # http.client ends such a body as if it were whole
        raise ConfigurationError(_cut_off(shown, received, announced))


def _cut_off(shown: str, received: int, announced: int | None = None) -> str:
    whole = "" if announced is None else f" of {announced}"
    return f"{shown}: the download ended early, after {received}{whole} bytes; try again"


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https only: no redirect leads to a local file or another protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _SafeRedirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed addresses, but never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = _address(newurl)
        if req.type == "https" and (target is None or target.scheme != "https"):
            raise urllib.error.URLError("it redirects from https to an address that is not")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
