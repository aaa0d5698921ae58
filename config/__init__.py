"""Settings and logging setup. Programs load the settings once, at their start, and pass frozen values inwards."""

from config.loading import load_settings
from config.settings import Settings

__all__ = ["Settings", "load_settings"]
