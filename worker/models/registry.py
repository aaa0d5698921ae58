"""Which models there are, and loading one by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corewatch.errors import ConfigurationError
from worker.models.adapters import ADAPTERS, Adapter, Device
from worker.models.detector import Detector, ModelDetector
from worker.models.manifest import MANIFEST_NAME, Manifest, read_manifest, sha256_of
from worker.models.spread import PERTURBATIONS

BUILTIN_DIR: Final = Path(__file__).parent / "builtin"
"""Models that come with corewatch."""


class ModelNotFound(ConfigurationError):
    """No model of this name is built in or installed."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model in a list; exactly one of `manifest` and `problem` is None."""

    name: str
    folder: Path
    builtin: bool
    manifest: Manifest | None
    problem: str | None


def is_builtin(name: str) -> bool:
    """Whether a model of this name comes with corewatch."""
    return (BUILTIN_DIR / name / MANIFEST_NAME).is_file()


def list_models(models_dir: Path) -> tuple[ModelEntry, ...]:
    """All models, built-in first, then those installed under `models_dir`, by name. A model that cannot be read is listed with why.

    Only manifests are read here; `verify_model` looks at the weights.
    """
    entries = []
    for parent, builtin in ((BUILTIN_DIR, True), (models_dir, False)):
        folders = sorted(f for f in parent.iterdir() if (f / MANIFEST_NAME).is_file()) if parent.is_dir() else []
        for folder in folders:
            try:
                entries.append(ModelEntry(folder.name, folder, builtin, read_manifest(folder), None))
            except ConfigurationError as error:
                entries.append(ModelEntry(folder.name, folder, builtin, None, str(error)))
    return tuple(entries)


def find_model(name: str, models_dir: Path) -> tuple[Path, Manifest]:
    """Folder and manifest of a model; a built-in one is never shadowed by an installed one.

    Raises
    ------
    ModelNotFound
        With the names that there are.
    ConfigurationError
        The model's manifest cannot be used.
    """
    for entry in list_models(models_dir):
        if entry.name == name:
            return entry.folder, read_manifest(entry.folder)
    known = ", ".join(entry.name for entry in list_models(models_dir)) or "none"
    raise ModelNotFound(f"model.name: there is no model {name!r} (there are: {known}); install it with: corewatch model install")


def verify_model(name: str, models_dir: Path, *, adapters: Mapping[str, Adapter] = ADAPTERS) -> Manifest:
    """Check that a model's weights are the file that the manifest names, unchanged, and sound. Loads no TensorFlow.

    Raises
    ------
    ModelNotFound, ConfigurationError
        What is wrong, and what to do about it.
    """
    folder, manifest = find_model(name, models_dir)
    weights, adapter = _checked(folder, manifest, adapters)
    adapter.check(weights)
    return manifest


def load_detector(
    name: str, models_dir: Path, *, device: Device = "cpu", perturbations: int = 0, adapters: Mapping[str, Adapter] = ADAPTERS
) -> Detector:
    """Load a model. Slow (it imports TensorFlow): once per worker process.

    Parameters
    ----------
    name
        A built-in model or one under `models_dir`.
    device
        ``gpu`` without a usable GPU is an error.
    perturbations
        Copies that the spread is measured with: 0 (off), 5 or 15.

    Raises
    ------
    ModelNotFound
        No such model.
    ConfigurationError
        The weights changed since they were installed or are not sound, the adapter or the device is not there.
    """
    if perturbations not in PERTURBATIONS:
        raise ConfigurationError(f"model.perturbations: {perturbations} is not one of {', '.join(map(str, PERTURBATIONS))}")
    folder, manifest = find_model(name, models_dir)
    weights, adapter = _checked(folder, manifest, adapters)
    return ModelDetector(manifest.identity, adapter.load(weights, device), manifest.thresholds, perturbations)


def _checked(folder: Path, manifest: Manifest, adapters: Mapping[str, Adapter]) -> tuple[Path, Adapter]:
    """The weights file, unchanged since it was installed, and the adapter for it."""
    adapter = adapters.get(manifest.adapter)
    if adapter is None:
        raise ConfigurationError(
            f"model {manifest.name} needs the adapter {manifest.adapter!r}; there are: {', '.join(sorted(adapters))}"
        )
    weights = folder / manifest.weights
    try:
        digest = sha256_of(weights)
    except OSError as error:
        raise ConfigurationError(
            f"model {manifest.name}: {manifest.weights} cannot be read: {error.strerror}; install it again"
        ) from error
    if digest != manifest.sha256:
        raise ConfigurationError(
            f"model {manifest.name}: {manifest.weights} is not the file that was installed (SHA-256 {digest[:12]}..., "
            f"the manifest says {manifest.sha256[:12]}...); install it again"
        )
    return weights, adapter
