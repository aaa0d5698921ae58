"""Models: which there are, installing and verifying them, and the detector that the pipeline calls.

TensorFlow is imported when a detector is loaded, not when this package is.
"""

from worker.models.detector import Detector
from worker.models.install import install_model
from worker.models.manifest import Manifest
from worker.models.registry import ModelEntry, ModelNotFound, list_models, load_detector, verify_model
from worker.models.weights import WeightsRefused

__all__ = [
    "Detector",
    "Manifest",
    "ModelEntry",
    "ModelNotFound",
    "WeightsRefused",
    "install_model",
    "list_models",
    "load_detector",
    "verify_model",
]
