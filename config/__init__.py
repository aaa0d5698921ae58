"""Settings, their loading and checks, and logging: read at the edge, passed inwards as frozen values."""

from config.loading import load_settings
from config.settings import Settings

__all__ = ["Settings", "load_settings"]
