"""STOW-RS client: stores DICOM files in a DICOMweb archive (PS3.18 10.5), bytes unchanged."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import requests
from requests.auth import HTTPBasicAuth

from config.delivery import DicomwebSettings
from corewatch.errors import NoAnswer, OperatorNeeded, RetryLater
from corewatch.units import MIB
from foundation.dicom_client.storage import StoreOutcome, StoreResult, classify_status, file_identity

MAX_REQUEST_BYTES: Final = 64 * MIB
"""Largest total of the files in one request, unless one file alone is larger: web servers limit the size of a request."""

_JSON: Final = "application/dicom+json"
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_REMEDIES: Final = {
    400: "look at its log",
    401: "correct user and password",
    403: "give this user the right to store there",
    404: "correct the URL; it ends before /studies",
    405: "correct the URL, or enable STOW-RS on the server",
    406: "let it answer in application/dicom+json",
    413: "let it accept larger requests",
    415: "let it accept multipart/related with application/dicom",
}
_FAILED, _REASON = "00081198", "00081197"
_STORED, _WARNING = "00081199", "00081196"
_OTHER_FAILURES = "0008119A"
_INSTANCE = "00081155"


def store(
    archive: DicomwebSettings,
    paths: Sequence[Path],
    progress: Callable[[StoreOutcome], None] = lambda _outcome: None,
) -> tuple[StoreOutcome, ...]:
    """Store DICOM files.

    Parameters
    ----------
    progress
        Called for each file when its request has been answered.

    Returns
    -------
    One outcome for each file, in their order; failures of single instances are outcomes, not exceptions.

    Raises
    ------
    RetryLater
        The server cannot be reached, is busy, or broke off.
    OperatorNeeded
        It refuses us or our requests permanently, or its certificate cannot be trusted.
    """
    outcomes: list[StoreOutcome] = []
    with _session(archive) as session:
        for batch in _batches(paths):
            body, content_type = _body(batch)
            headers = {"Content-Type": content_type, "Accept": _JSON}
            answer = _ask(session, archive, "POST", f"{archive.url.rstrip('/')}/studies", data=body, headers=headers)
            if answer.status_code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT}:
                raise _refusal(answer, archive)
            answered = list(_outcomes(batch, _read(answer, archive)))
            for outcome in answered:
                progress(outcome)
            outcomes += answered
    return tuple(outcomes)


def check(archive: DicomwebSettings) -> None:
    """Connection test: search for one study (QIDO-RS) with the same address, credentials and certificates."""
    with _session(archive) as session:
        address = f"{archive.url.rstrip('/')}/studies"
        answer = _ask(session, archive, "GET", address, params={"limit": "1"}, headers={"Accept": _JSON})
    if answer.status_code not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT}:
        raise _refusal(answer, archive)


def _session(archive: DicomwebSettings) -> requests.Session:
    for path in (archive.authority, archive.certificate, archive.key):
        if path is not None and not path.is_file():
            raise OperatorNeeded(f"{archive.url}: there is no file {path}", "check authority, certificate and key")
    session = requests.Session()
    session.trust_env = False  # no proxy and no password of the environment: only the settings count
    session.verify = True if archive.authority is None else str(archive.authority)
    if archive.certificate is not None:
        session.cert = str(archive.certificate) if archive.key is None else (str(archive.certificate), str(archive.key))
    if archive.user is not None:
        # as bytes: requests itself would encode text as Latin-1, where servers expect UTF-8 (RFC 7617)
        password = "" if archive.password is None else archive.password.get_secret_value()
        session.auth = HTTPBasicAuth(archive.user.encode(), password.encode())
    return session


def _ask(session: requests.Session, archive: DicomwebSettings, method: str, address: str, **what: Any) -> requests.Response:
    try:
        return session.request(method, address, timeout=archive.timeout_s, allow_redirects=False, **what)
    except requests.exceptions.SSLError as error:
        raise OperatorNeeded(
            f"{archive.url}: no trust over TLS ({_tls_reason(error)})", "check its certificate, authority, and our certificate"
        ) from None
    except requests.exceptions.Timeout:
        raise NoAnswer(
            f"{archive.url} did not answer within {archive.timeout_s:g} s", "look at its load, check the network"
        ) from None
    except requests.exceptions.ConnectionError:
        raise NoAnswer(f"{archive.url} cannot be reached or broke off", "check host, port and firewall") from None
    except (requests.exceptions.RequestException, OSError) as error:
        raise OperatorNeeded(f"{archive.url} cannot be asked ({type(error).__name__})", "check url, certificate and key") from None


def _tls_reason(error: Exception) -> str:
    found = re.search(r"(certificate verify failed: [^(]+|alert [a-z ]+|hostname mismatch[^(]*)", str(error), re.IGNORECASE)
    return found.group(1).strip() if found else "handshake failed"


def _refusal(answer: requests.Response, archive: DicomwebSettings) -> RetryLater | OperatorNeeded:
    words = f"{archive.url} answered {answer.status_code} {answer.reason}".strip()
    if answer.status_code in _TEMPORARY:
        return RetryLater(words, "look at its disk and load")
    if answer.is_redirect:
        return OperatorNeeded(words, "set the URL to the address that it redirects to, with https where it asks for that")
    return OperatorNeeded(words, _REMEDIES.get(answer.status_code, "look at its log"))


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in paths:
        more = path.stat().st_size
        if batch and size + more > MAX_REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += more
    if batch:
        yield batch


def _body(paths: Sequence[Path]) -> tuple[bytes, str]:
    """Multipart/related (RFC 2387) of whole files, and its Content-Type. The boundary is too random to occur in them."""
    boundary = secrets.token_hex(24)
    parts: list[bytes] = []
    for path in paths:
        parts += [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(), path.read_bytes(), b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f'multipart/related; type="application/dicom"; boundary={boundary}'


@dataclass(frozen=True, slots=True)
class _Answer:
    """A Store Instances Response (PS3.18 Table 10.5.3-1): SOP Instance UID -> failure or warning reason; None: no reason given."""

    stored: dict[str, int | None]
    failed: dict[str, int | None]
    others: bool


def _outcomes(paths: Sequence[Path], answer: _Answer) -> Iterator[StoreOutcome]:
    for path in paths:
        sop_class, uid = file_identity(path)
        if uid in answer.failed:
            status = answer.failed[uid] or 0x0110
            result, words, temporary = classify_status(status)
            # what a server lists as failed has failed, whatever its reason, except that it has the instance already (0x0111)
            result = result if status == 0x0111 else StoreResult.FAILED
            yield StoreOutcome(path, sop_class, uid, result, status, words, temporary)
        elif uid in answer.stored:
            status = answer.stored[uid] or 0x0000
            result, words, _ = classify_status(status)
            result = StoreResult.WARNING if result is StoreResult.FAILED else result
            yield StoreOutcome(path, sop_class, uid, result, status, words)
        else:
            words = "the server does not report its outcome" + (", and could not read others" if answer.others else "")
            yield StoreOutcome(path, sop_class, uid, StoreResult.FAILED, None, words, temporary=True)


def _read(answer: requests.Response, archive: DicomwebSettings) -> _Answer:
    try:
        data = _items(answer.json())
        return _Answer(
            {_uid(item): _number(item, _WARNING) for item in data.get(_STORED, ())},
            {_uid(item): _number(item, _REASON) for item in data.get(_FAILED, ())},
            bool(data.get(_OTHER_FAILURES)),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise RetryLater(
            f"{archive.url} answered {answer.status_code} without a Store Instances Response",
            "check that the URL is that of its DICOMweb service",
        ) from None


Items = dict[str, list[dict[str, str]]]
"""Tag of a sequence -> its items, each tag -> first value."""


def _items(data: Any) -> Items:
    """DICOM JSON Model (PS3.18 Annex F); some servers put the one data set into a list."""
    dataset = data[0] if isinstance(data, list) and data else data
    if not isinstance(dataset, dict):
        raise TypeError("no data set")
    return {tag: [_values(item) for item in body.get("Value", ())] for tag, body in dataset.items() if body.get("vr") == "SQ"}


def _values(item: dict[str, Any]) -> dict[str, str]:
    return {tag: str(element["Value"][0]) for tag, element in item.items() if element.get("Value")}


def _uid(item: dict[str, str]) -> str:
    return item[_INSTANCE].strip()


def _number(item: dict[str, str], tag: str) -> int | None:
    value = item.get(tag)
    return int(value) if value else None
