"""The models of one worker process, loaded once each as the settings say (device, perturbations)."""

from __future__ import annotations

import structlog

from config.settings import Settings
from corewatch.errors import ConfigurationError, NotAnalysed
from corewatch.reasons import Reason
from worker.models.adapters import Device
from worker.models.detector import Detector
from worker.models.registry import load_detector

log = structlog.get_logger()


class Detectors:
    """Cache of loaded models by name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, Detector] = {}

    def get(self, name: str | None) -> Detector:
        """The model of this name; None: `model.name` of the settings.

        Raises
        ------
        NotAnalysed
            The model is not installed or cannot be loaded (`model_missing`).
        """
        wanted = name or self._settings.model.name
        if wanted not in self._loaded:
            try:
                self._loaded[wanted] = load(wanted, self._settings)
            except (ConfigurationError, OSError) as error:
                log.error("model_not_loaded", model=wanted, why=str(error))
                raise NotAnalysed(Reason.MODEL_MISSING, f"{wanted}: {error}") from error
        return self._loaded[wanted]

    def warm_up(self) -> str | None:
        """Load every model that the settings name and run it once; returns the problem with `model.name`, for people, or None.

        A model that only a series rule names may be missing: the other series do not wait for it. Each problem is logged.
        """
        first, *of_rules = self._settings.model_names
        problem = self._run_once(first)
        if problem is None:
            for name in of_rules:
                self._run_once(name)
        return problem

    def _run_once(self, name: str) -> str | None:
        try:
            detector = self.get(name)
            detector.warm_up()
        except NotAnalysed as error:
            return error.detail
        except Exception as error:  # TensorFlow's errors, for example of a device without memory
            log.exception("model_warm_up_failed", model=name)
            self._loaded.pop(name, None)
            return f"{name}: {type(error).__name__}"
        log.info("model_ready", model=detector.identity.name, version=detector.identity.version)
        return None


def load(name: str, settings: Settings) -> Detector:
    """Load a model as the settings say, without running it.

    Raises
    ------
    ConfigurationError
        There is no such model, its weights are refused, or the device or TensorFlow is not available.
    """
    model = settings.model

    def on(device: Device) -> Detector:
        return load_detector(name, settings.models_dir, device=device, perturbations=model.perturbations if model.spread else 0)

    try:
        return on(model.device)
    except ImportError as error:
        raise ConfigurationError(f"TensorFlow cannot be used: {error}", "install corewatch[cpu] or corewatch[cuda]") from error
    except ConfigurationError as error:
        if not (model.device == "gpu" and model.cpu_fallback):
            raise
        detector = on("cpu")
        log.error("gpu_missing_using_cpu", setting="model.cpu_fallback", model=name, why=str(error))
        return detector
