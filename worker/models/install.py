"""Install a model: fetch a weights file, check it, and publish it in the models folder."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from corewatch.errors import ConfigurationError
from foundation.durable import sync_folder
from foundation.lock import is_locked, locked
from worker.models.adapters import ADAPTERS, Adapter
from worker.models.fetch import described, fetch
from worker.models.manifest import (
    MANIFEST_NAME,
    MASK_OF_ADAPTER,
    MODEL_NAME_PATTERN,
    PUBLISHED_RMSE_ML,
    InputFrame,
    ModelManifest,
    Thresholds,
    first_problem,
    write_manifest,
)
from worker.models.registry import is_builtin

RESEARCH_USE: Final = "Research use only, not for diagnosis."

_INCOMING_PREFIX: Final = ".incoming-"


def install_model(
    source: str | Path,
    models_dir: Path,
    name: str,
    *,
    version: str,
    sha256: str | None = None,
    adapter: str = "deepsymnet",
    thresholds: Thresholds | None = None,
    rmse_ml: float | None = None,
    input_mask: bool = True,
    intended_use: str = RESEARCH_USE,
    citation: str = "",
    licence: str = "",
    adapters: Mapping[str, type[Adapter]] = ADAPTERS,
) -> ModelManifest:
    """Install a weights file as `models_dir/name/`; replaces an earlier version of the same model atomically.

    The file is copied, its digest compared, and the adapter checks layout, shapes and values before anything becomes visible. The
    manifest names the weights by their digest and is renamed into place last, so a worker that loads the model meanwhile gets the
    old version or the new one. Installations at the same time wait for each other; the next one removes the files of a killed one.

    Parameters
    ----------
    source
        Path of a file, or an ``https://`` address. ``http://`` is accepted only together with `sha256`.
    version
        Version of the model, which every result contains.
    input_mask
        Whether the model's training heads were masked as the adapter's were (`MASK_OF_ADAPTER`).
    sha256
        Digest that the file must have, hex; None: not compared.
    rmse_ml
        The model's own error in mL; None: not known, or published (`worker.models.manifest.PUBLISHED_RMSE_ML`).

    Raises
    ------
    ConfigurationError
        The source cannot be fetched, has another digest, or is refused; or the name is a built-in model's or not valid. Then
        nothing is changed.
    OSError
        The models folder cannot be written.
    """
    chosen = adapters.get(adapter)
    if chosen is None:
        raise ConfigurationError(f"there is no adapter {adapter!r}", f"there are: {', '.join(sorted(adapters))}")
    if not re.fullmatch(MODEL_NAME_PATTERN, name):
        raise ConfigurationError(f"{name!r} cannot be a model's name: use at most 63 lower-case letters, digits and hyphens")
    if is_builtin(name):
        raise ConfigurationError(f"{name} is a built-in model", "choose another name")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ConfigurationError("the given SHA-256 is not valid: it must have 64 hexadecimal digits")
    origin = described(source)
    models_dir.mkdir(parents=True, exist_ok=True)
    with _incoming(models_dir) as incoming:
        weights = incoming / "weights.h5"
        digest = fetch(source, weights, sha256=sha256)
        if sha256 is not None and digest != sha256.lower():
            raise ConfigurationError(f"{origin} has the SHA-256 {digest}, not {sha256.lower()}: it is not the file that was meant")
        chosen.check(weights)
        try:
            manifest = ModelManifest(
                name=name,
                version=version,
                weights=f"weights-{digest[:16]}.h5",
                sha256=digest,
                adapter=adapter,
                input=InputFrame(mask=MASK_OF_ADAPTER.get(adapter) if input_mask else None),
                thresholds=thresholds or Thresholds(),
                rmse_ml=PUBLISHED_RMSE_ML.get(digest) if rmse_ml is None else rmse_ml,
                intended_use=intended_use,
                citation=citation,
                licence=licence,
                source=origin,
            )
        except ValidationError as error:
            raise ConfigurationError(first_problem(error)) from error
        with locked(models_dir):
            _publish(weights, models_dir / name, manifest)
    return manifest


def _publish(weights: Path, folder: Path, manifest: ModelManifest) -> None:
    """Rename the weights into place, then the manifest that names them; then remove the files that no manifest names any longer."""
    folder.mkdir(exist_ok=True)
    weights.chmod(0o644)
    weights.replace(folder / manifest.weights)
    sync_folder(folder)
    write_manifest(folder, manifest)
    sync_folder(folder.parent)
    for old in (*folder.glob("weights-*.h5"), *folder.glob(f".{Path(MANIFEST_NAME).stem}*")):
        if old.name != manifest.weights:
            old.unlink(missing_ok=True)


@contextmanager
def _incoming(models_dir: Path) -> Iterator[Path]:
    """Temporary folder to fetch into, removed at the end. Those of killed installations are removed first."""
    with ExitStack() as stack:
        with locked(models_dir):
            for left in models_dir.glob(f"{_INCOMING_PREFIX}*"):
                if not is_locked(left):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=_INCOMING_PREFIX, dir=models_dir))
            stack.enter_context(locked(folder))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder
