"""The models of one worker process: each loaded once, before it is needed where that is known."""

from __future__ import annotations

import structlog

from config.settings import Settings
from corewatch.errors import ConfigurationError, NotAnalysed
from corewatch.reasons import Reason
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
            model = self._settings.model
            try:
                self._loaded[wanted] = load_detector(
                    wanted,
                    self._settings.models_dir,
                    device=model.device,
                    perturbations=model.perturbations if model.spread else 0,
                )
            except (ConfigurationError, OSError, ImportError) as error:
                log.error("model cannot be loaded", model=wanted, why=str(error))
                raise NotAnalysed(Reason.MODEL_MISSING, f"{wanted}: {error}") from error
        return self._loaded[wanted]

    def warm_up(self) -> str | None:
        """Load and trace the model of the settings now; returns what is wrong, for people, or None. What is wrong is logged too."""
        try:
            detector = self.get(None)
            detector.warm_up()
        except NotAnalysed as error:
            return error.detail
        except Exception as error:  # TensorFlow's own, for example a device without memory: whatever it is, there is no model
            log.exception("model cannot be traced")
            self._loaded.clear()
            return f"{self._settings.model.name}: {type(error).__name__}"
        log.info("model ready", model=detector.identity.name, version=detector.identity.version)
        return None
