"""Manifest of a model (`manifest.json`): identity, weights file, input frame, outputs, thresholds, intended use."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from corewatch.errors import ConfigurationError
from corewatch.findings import CORE_MAP_THRESHOLD, ModelIdentity
from corewatch.geometry import NETWORK_SHAPE
from foundation.durable import replacing

MANIFEST_NAME: Final = "manifest.json"
_MAX_MANIFEST_BYTES: Final = 256 * 1024
_CHUNK_BYTES: Final = 1 << 20

MODEL_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
ModelName = Annotated[str, Field(pattern=MODEL_NAME_PATTERN)]
"""Also the name of the model's folder."""

PUBLISHED_RMSE_ML: Final = {"fb8e3fdda73f28d2b3cc629fb72230380c95ccf1ecfcffcf759cce203d59ae6e": 10.5}
"""Own error in mL of published weights by their digest, for an installation that does not give it. The weights published with
Giancardo et al. 2023: mean square error of 109.79 mL^2 on the authors' validation data."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("line breaks and control characters are not allowed")
    return text


def _for_results(text: str) -> str:
    # a backslash would separate one DICOM value into two (PS3.5 section 6.2, LO)
    if not text.isascii() or "\\" in text or text != text.strip():
        raise ValueError("use ASCII letters, digits and signs, no backslash, and no space at either end")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]
"""Text of one line."""

Version = Annotated[OneLine, Field(min_length=1, max_length=64), AfterValidator(_for_results)]
"""Is in every result, also in DICOM objects (LO)."""


class _ManifestSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class InputMask(_ManifestSection):
    """Where the model's input is kept; beyond, it is 0 HU. Describes how the heads that the model was trained on were masked."""

    beyond_brain_mm: float = Field(1.5, ge=-20, le=60)
    """Distance from the hull of the ICBM 2009a template's brain (sulci closed) up to which voxels of the grid are kept."""
    grid_edge_voxels: int = Field(2, ge=0, le=20)
    """Outermost voxels of the grid along L and A that are 0 HU."""


MASK_OF_ADAPTER: Final[dict[str, InputMask]] = {"deepsymnet": InputMask()}
"""Mask of models whose manifest names none, by adapter. DeepSymNet's: measured in docs/models.md."""


class InputFrame(_ManifestSection):
    """Frame of the model's input. Only the network's grid is allowed, which heads are aligned to."""

    axes: Literal["LAS"] = "LAS"
    shape: tuple[int, int, int] = NETWORK_SHAPE
    voxel_mm: float = 1.0
    hu_range: tuple[int, int] = (0, 100)
    """HU are clipped to this range."""
    mask: InputMask | None = None
    """None: the whole head is kept, with skull and scalp."""

    @model_validator(mode="after")
    def _is_the_networks_grid(self) -> InputFrame:
        if (self.shape, self.voxel_mm, self.hu_range) != (NETWORK_SHAPE, 1.0, (0, 100)):
            raise ValueError(f"the input must be {NETWORK_SHAPE} voxels of 1 mm with 0 to 100 HU")
        return self


class ModelOutput(_ManifestSection):
    """One output of the model."""

    name: str
    unit: str
    """For example mL, or percent of the map's maximum."""
    description: str


class Thresholds(_ManifestSection):
    """Thresholds of the decisions made from the model's output."""

    core_map: Literal[50] = CORE_MAP_THRESHOLD
    """Voxels of the core map above this value count as core; the same for every model, since pages and comparisons rely on it."""
    side_min_ml: float = Field(5.0, ge=0)
    """Below this core volume in mL the side is none."""
    side_min_confidence: float = Field(0.68, ge=0, le=1)
    """Below this confidence the side is none; 0.68 corresponds to one standard deviation of the natural difference."""
    asymmetry_sd_hu: float = Field(3.0, gt=0)
    """Standard deviation in HU of the difference between the hemispheres within the map, in heads without a core."""


DEEPSYMNET_OUTPUTS: Final = (
    ModelOutput(name="core_ml", unit="mL", description="Estimated volume of the ischemic core."),
    ModelOutput(
        name="core_map", unit="percent of the map's maximum", description="Where the estimate comes from, on the input grid."
    ),
)


class ModelManifest(_ManifestSection):
    """`manifest.json` in a model's folder."""

    name: ModelName
    version: Version
    weights: str = Field("weights.h5", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$")
    """Name of the weights file beside the manifest."""
    sha256: Sha256
    """Digest of the weights file."""
    adapter: str
    """Name of the adapter that loads it (`worker.models.adapters`)."""
    input: InputFrame = InputFrame()
    outputs: tuple[ModelOutput, ...] = DEEPSYMNET_OUTPUTS
    thresholds: Thresholds = Thresholds()
    rmse_ml: float | None = Field(None, gt=0)
    """The model's own error in mL: root mean square difference from the reference volumes of its validation data."""
    intended_use: OneLine = Field(min_length=1)
    citation: OneLine = ""
    licence: OneLine = ""
    source: OneLine = ""
    """Where the weights came from: a file name or an address without user and password."""

    @property
    def own_error_ml(self) -> float | None:
        """`rmse_ml`, or what is published about weights with this digest; None where nothing is known."""
        return PUBLISHED_RMSE_ML.get(self.sha256) if self.rmse_ml is None else self.rmse_ml

    @property
    def input_mask(self) -> InputMask | None:
        """The mask that heads get. A manifest of an earlier version names none: then it is that of the adapter."""
        if "mask" in self.input.model_fields_set:
            return self.input.mask
        return MASK_OF_ADAPTER.get(self.adapter)

    @property
    def identity(self) -> ModelIdentity:
        """Name, version and digest, which every result contains."""
        return ModelIdentity(self.name, self.version, self.sha256)


def read_manifest(folder: Path) -> ModelManifest:
    """Read the manifest of the model in `folder`.

    Raises
    ------
    ConfigurationError
        It is missing or not JSON, a key is missing or unknown, or its name is not the folder's.
    """
    path = folder / MANIFEST_NAME
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"model {folder.name}: {MANIFEST_NAME} cannot be read: {error.strerror}") from error
    if len(text) > _MAX_MANIFEST_BYTES:
        raise ConfigurationError(f"model {folder.name}: {MANIFEST_NAME} is larger than {_MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = ModelManifest.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError(f"model {folder.name}: {MANIFEST_NAME} is not valid: {first_problem(error)}") from error
    if manifest.name != folder.name:
        raise ConfigurationError(f"model {folder.name}: {MANIFEST_NAME} names another model, {manifest.name}")
    return manifest


def first_problem(error: ValidationError) -> str:
    """First problem of a manifest: the key and the reason, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or MANIFEST_NAME
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write the manifest so that a reader sees the old or the new one, never a part; it survives a power cut once this returns."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    with replacing(folder / MANIFEST_NAME) as file:
        os.fchmod(file.fileno(), 0o644)  # workers run under another user; the umask of the installing user must not stop them
        file.write(text.encode())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
