"""Models: list, install, verify and load them; `Detector` is what the stage `detect` runs.

TensorFlow is imported when a model is loaded, not when this package is imported.
"""

from worker.models.detector import Detector
from worker.models.install import install_model
from worker.models.manifest import ModelManifest
from worker.models.registry import ModelEntry, ModelNotFound, list_models, load_detector, verify_model
from worker.models.weights import WeightsRefused

__all__ = [
    "Detector",
    "ModelEntry",
    "ModelManifest",
    "ModelNotFound",
    "WeightsRefused",
    "install_model",
    "list_models",
    "load_detector",
    "verify_model",
]
