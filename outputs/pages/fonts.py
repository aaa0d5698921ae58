"""Scalable font DejaVu Sans, which corewatch carries (`outputs/pages/dejavu/LICENSE`): none needs to be installed on the system."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from PIL import ImageFont

_FOLDER: Final = Path(__file__).parent / "dejavu"


@lru_cache(maxsize=64)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of `size` pixels, with the basic layout engine: pages are the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(_FOLDER / name), size, layout_engine=ImageFont.Layout.BASIC)
