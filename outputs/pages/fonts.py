"""Scalable font DejaVu Sans from the package data of matplotlib: no font needs to be installed on the system.

matplotlib itself is not imported, which would take longer than drawing a page.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from corewatch.errors import ConfigurationError


@lru_cache(maxsize=1)
def _folder() -> Path:
    spec = find_spec("matplotlib")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place) / "mpl-data" / "fonts" / "ttf"
        if (folder / "DejaVuSans.ttf").is_file():
            return folder
    raise ConfigurationError("no font for the pages: install matplotlib with its package data (mpl-data/fonts/ttf)")


@lru_cache(maxsize=64)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of `size` pixels, with the basic layout engine: pages are the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(_folder() / name), size, layout_engine=ImageFont.Layout.BASIC)
