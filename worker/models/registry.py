"""Registry of models, built in and installed: list, find, verify and load them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from corewatch.errors import ConfigurationError
from worker.models.adapters import ADAPTERS, Adapter, Device
from worker.models.detector import Detector
from worker.models.manifest import MANIFEST_NAME, ModelManifest, read_manifest, sha256_of
from worker.models.spread import PERTURBATIONS

T = TypeVar("T")

BUILTIN_DIR: Final = Path(__file__).parent / "builtin"
"""Folder of the models that are part of corewatch."""


class ModelNotFound(ConfigurationError):
    """No model of this name is built in or installed."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One listed model; exactly one of `manifest` and `problem` is None."""

    name: str
    folder: Path
    builtin: bool
    manifest: ModelManifest | None
    problem: str | None


def is_builtin(name: str) -> bool:
    """Whether a model of this name is part of corewatch."""
    return (BUILTIN_DIR / name / MANIFEST_NAME).is_file()


def list_models(models_dir: Path) -> tuple[ModelEntry, ...]:
    """All models by name: built-in ones first, then those installed under `models_dir`. An unreadable one has its problem.

    Only manifests are read here; `verify_model` checks the weights.
    """
    return tuple(
        _entry(folder, builtin)
        for parent, builtin in ((BUILTIN_DIR, True), (models_dir, False))
        for folder in (sorted(parent.iterdir()) if parent.is_dir() else ())
        if _has_manifest(folder)
    )


def _has_manifest(folder: Path) -> bool:
    """Whether the folder holds a model, readable or not; during an installation it has no manifest yet."""
    try:
        (folder / MANIFEST_NAME).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # reading it says why
        return True
    return True


def _entry(folder: Path, builtin: bool) -> ModelEntry:
    try:
        return ModelEntry(folder.name, folder, builtin, read_manifest(folder), None)
    except ConfigurationError as error:
        return ModelEntry(folder.name, folder, builtin, None, str(error))


def find_model(name: str, models_dir: Path) -> tuple[Path, ModelManifest]:
    """Folder and manifest of a model; a built-in one is never shadowed by an installed one.

    Raises
    ------
    ModelNotFound
        With the names of the models that exist.
    ConfigurationError
        The model's manifest cannot be used.
    """
    entries = list_models(models_dir)
    for entry in entries:
        if entry.name == name:
            return entry.folder, read_manifest(entry.folder)
    known = ", ".join(entry.name for entry in entries) or "none"
    raise ModelNotFound(f"there is no model {name!r} (there are: {known})", "install it with: corewatch model install")


def verify_model(name: str, models_dir: Path, *, adapters: Mapping[str, type[Adapter]] = ADAPTERS) -> ModelManifest:
    """Check that a model's weights are the unchanged file that the manifest names, and valid. Does not load TensorFlow.

    Raises
    ------
    ModelNotFound, ConfigurationError
        With problem and remedy.
    """

    def check(manifest: ModelManifest, weights: Path, adapter: type[Adapter]) -> ModelManifest:
        adapter.check(weights)
        return manifest

    return _with_model(find_model(name, models_dir)[0], adapters, check)


def load_detector(
    name: str, models_dir: Path, *, device: Device = "cpu", perturbations: int = 0, adapters: Mapping[str, type[Adapter]] = ADAPTERS
) -> Detector:
    """Load a model by its name, built in or installed under `models_dir`; see `load_from`.

    Raises
    ------
    ModelNotFound
        No such model.
    ConfigurationError
        As `load_from`.
    """
    return load_from(find_model(name, models_dir)[0], device=device, perturbations=perturbations, adapters=adapters)


def load_from(
    folder: Path, *, device: Device = "cpu", perturbations: int = 0, adapters: Mapping[str, type[Adapter]] = ADAPTERS
) -> Detector:
    """Load the model in `folder`. Slow (it imports TensorFlow): once per worker process.

    Parameters
    ----------
    device
        ``gpu`` without a usable GPU is an error.
    perturbations
        Number of displaced copies that the spread is measured with: 0 (off), 5 or 15.

    Raises
    ------
    ConfigurationError
        The manifest cannot be used, the weights have changed since they were installed or are not valid, or the adapter or the
        device is not available.
    """
    if perturbations not in PERTURBATIONS:
        raise ConfigurationError(f"model.perturbations: {perturbations} is not one of {', '.join(map(str, PERTURBATIONS))}")

    def load(manifest: ModelManifest, weights: Path, adapter: type[Adapter]) -> Detector:
        network = adapter.load(weights, device)
        return Detector(manifest.identity, network, manifest.thresholds, perturbations, manifest.own_error_ml, manifest.input_mask)

    return _with_model(folder, adapters, load)


def _with_model(folder: Path, adapters: Mapping[str, type[Adapter]], use: Callable[[ModelManifest, Path, type[Adapter]], T]) -> T:
    """Call `use(manifest, weights, adapter)`; repeat it if the model was replaced meanwhile, which removes the earlier weights."""
    manifest = read_manifest(folder)
    try:
        return use(manifest, *_checked(folder, manifest, adapters))
    except ConfigurationError:
        if read_manifest(folder) == manifest:
            raise
    return _with_model(folder, adapters, use)


def _checked(folder: Path, manifest: ModelManifest, adapters: Mapping[str, type[Adapter]]) -> tuple[Path, type[Adapter]]:
    """The weights file, unchanged since its installation, and its adapter."""
    adapter = adapters.get(manifest.adapter)
    if adapter is None:
        raise ConfigurationError(
            f"model {manifest.name} needs the adapter {manifest.adapter!r}", f"there are: {', '.join(sorted(adapters))}"
        )
    weights = folder / manifest.weights
    try:
        digest = sha256_of(weights)
    except OSError as error:
        raise ConfigurationError(
            f"model {manifest.name}: {manifest.weights} cannot be read: {error.strerror}", "install it again"
        ) from error
    if digest != manifest.sha256:
        raise ConfigurationError(
            f"model {manifest.name}: {manifest.weights} is not the file that was installed (SHA-256 {digest[:12]}..., "
            f"the manifest says {manifest.sha256[:12]}...)",
            "install it again",
        )
    return weights, adapter
