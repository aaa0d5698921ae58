"""The models of one worker process: each loaded once, before it is needed where that is known."""

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
    """Loads detectors by name and keeps them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, Detector] = {}

    def get(self, name: str | None) -> Detector:
        """The detector of this name; None: the one of the settings.

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
                log.error("model cannot be loaded", model=wanted, why=str(error))
                raise NotAnalysed(Reason.MODEL_MISSING, f"{wanted}: {error}") from error
        return self._loaded[wanted]

    def warm_up(self) -> str | None:
        """Load and trace now what the settings name; returns what is wrong with `model.name`, for people, or None.

        A model that only a rule names may be missing: the other series do not wait for it. Whatever is wrong is logged.
        """
        first, *of_rules = self._settings.model_names
        problem = self._trace(first)
        if problem is None:
            for name in of_rules:
                self._trace(name)
        return problem

    def _trace(self, name: str) -> str | None:
        try:
            detector = self.get(name)
            detector.warm_up()
        except NotAnalysed as error:
            return error.detail
        except Exception as error:  # TensorFlow's own, for example a device without memory: whatever it is, there is no model
            log.exception("model cannot be traced", model=name)
            self._loaded.pop(name, None)
            return f"{name}: {type(error).__name__}"
        log.info("model ready", model=detector.identity.name, version=detector.identity.version)
        return None


def load(name: str, settings: Settings) -> Detector:
    """Load a model as the settings say; not traced yet.

    Raises
    ------
    ConfigurationError
        There is no such model, its weights are refused, the device is not there, or TensorFlow is not.
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
        log.error("no GPU: computing on the processor, which is slower, as model.cpu_fallback says", model=name, why=str(error))
        return detector
