"""Bring a weights file from outside into the models folder."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from corewatch.errors import ConfigurationError
from ledger.durable import sync_folder
from worker.models.adapters import ADAPTERS, Adapter
from worker.models.manifest import MODEL_NAME_PATTERN, Manifest, Thresholds, write_manifest
from worker.models.registry import is_builtin
from worker.models.weights import MAX_FILE_BYTES

DOWNLOAD_TIMEOUT_S: Final = 60.0
"""Longest silence of the server."""

_CHUNK_BYTES: Final = 1 << 20

RESEARCH_USE: Final = "Research use only, not for diagnosis."


def install_model(
    source: str | Path,
    models_dir: Path,
    name: str,
    *,
    version: str,
    sha256: str | None = None,
    adapter: str = "deepsymnet",
    thresholds: Thresholds | None = None,
    intended_use: str = RESEARCH_USE,
    citation: str = "",
    licence: str = "",
    adapters: Mapping[str, Adapter] = ADAPTERS,
) -> Manifest:
    """Install a weights file as `models_dir/name/`, replacing an earlier version of the same model in one step.

    The file is copied, its digest compared, and the adapter checks layout, shapes and values before anything becomes visible. The
    manifest names the weights by their digest and is renamed into place last, so a worker that loads meanwhile gets the old model
    or the new one.

    Parameters
    ----------
    source
        Path of a file, or an ``https://`` address. ``http://`` is accepted only together with `sha256`.
    version
        The version that results name.
    sha256
        Digest that the file must have, hex; None takes the file as it is.

    Raises
    ------
    ConfigurationError
        The source cannot be had, has another digest, or is refused; the name is a built-in model's or no name at all. Nothing is
        changed then.
    """
    chosen = adapters.get(adapter)
    if chosen is None:
        raise ConfigurationError(f"there is no adapter {adapter!r}; there are: {', '.join(sorted(adapters))}")
    if not re.fullmatch(MODEL_NAME_PATTERN, name):
        raise ConfigurationError(f"{name!r} cannot be a model's name: use lower-case letters, digits and hyphens")
    if is_builtin(name):
        raise ConfigurationError(f"{name} is a built-in model; choose another name")
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=models_dir) as incoming:
        weights = Path(incoming) / "weights.h5"
        digest = _fetch(source, weights, sha256)
        if sha256 is not None and digest != sha256.lower():
            raise ConfigurationError(
                f"{_shown(source)} has the SHA-256 {digest}, not {sha256.lower()}: it is not the file that was meant"
            )
        chosen.check(weights)
        try:
            manifest = Manifest(
                name=name,
                version=version,
                weights=f"weights-{digest[:16]}.h5",
                sha256=digest,
                adapter=adapter,
                thresholds=thresholds or Thresholds(),
                intended_use=intended_use,
                citation=citation,
                licence=licence,
                source=_shown(source),
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ConfigurationError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        _publish(weights, models_dir / name, manifest)
    return manifest


def _publish(weights: Path, folder: Path, manifest: Manifest) -> None:
    """Weights first, then the manifest that names them, then away with weights that no manifest names any more."""
    folder.mkdir(exist_ok=True)
    weights.chmod(0o644)
    weights.replace(folder / manifest.weights)
    sync_folder(folder)
    write_manifest(folder, manifest)
    sync_folder(folder.parent)
    for old in folder.glob("weights-*.h5"):
        if old.name != manifest.weights:
            old.unlink(missing_ok=True)


def _fetch(source: str | Path, target: Path, sha256: str | None) -> str:
    """Copy or download to `target`, fsync, return the SHA-256."""
    scheme = "" if isinstance(source, Path) else urllib.parse.urlsplit(source).scheme.lower()
    try:
        if scheme in ("http", "https"):
            if scheme == "http" and sha256 is None:
                raise ConfigurationError(
                    "a model over http:// needs its SHA-256 to be given, since anybody on the way could change it"
                )
            with _opener().open(str(source), timeout=DOWNLOAD_TIMEOUT_S) as response:
                return _copy(response, target)
        with Path(source).open("rb") as file:
            return _copy(file, target)
    except urllib.error.HTTPError as error:
        raise ConfigurationError(f"{_shown(source)} answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise ConfigurationError(f"{_shown(source)} cannot be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ConfigurationError(f"{_shown(source)} cannot be read: {error}") from error


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https and nothing else: no redirect leads to a local file or another protocol."""
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
    """Follows redirects, but never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise urllib.error.URLError("it redirects from https to an address that is not")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _copy(stream: BinaryIO | http.client.HTTPResponse, target: Path) -> str:
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise ConfigurationError(f"the file is larger than {MAX_FILE_BYTES} bytes: it is no weights file of a known model")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _shown(source: str | Path) -> str:
    """The source for messages and the manifest: a file's name only, an address without user, password and query."""
    if isinstance(source, Path):
        return source.name
    parts = urllib.parse.urlsplit(source)
    if parts.scheme.lower() not in ("http", "https"):
        return Path(source).name
    host = parts.hostname or ""
    return urllib.parse.urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))
