"""Drawing on a page: colours, text that fits, colour bars, the research label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from corewatch import RESEARCH_LABEL
from corewatch.findings import CORE_MAP_THRESHOLD
from outputs.pages.axial_slices import CONTOUR, MAP_VISIBLE_FROM, RgbArray, tint
from outputs.pages.fonts import font

Colour = tuple[int, int, int]

BACKGROUND: Final[Colour] = (12, 14, 18)
"""Nearly black: pages are read in dark rooms, beside CT images."""
PANEL: Final[Colour] = (28, 32, 40)
TEXT: Final[Colour] = (242, 244, 247)
MUTED: Final[Colour] = (170, 178, 190)
ALERT: Final[Colour] = (230, 97, 0)
"""Vermilion, distinct from CALM for every kind of colour vision; a word always goes with the colour."""
CALM: Final[Colour] = (60, 130, 200)
CAUTION: Final[Colour] = (255, 208, 80)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A page being drawn."""

    image: Image.Image
    draw: ImageDraw.ImageDraw

    @classmethod
    def blank(cls, width: int, height: int) -> Canvas:
        """An empty page."""
        image = Image.new("RGB", (width, height), BACKGROUND)
        return cls(image, ImageDraw.Draw(image))

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int,
        *,
        bold: bool = False,
        fill: Colour = TEXT,
        anchor: str = "la",
        width: float = 0,
        outline: int = 0,
    ) -> float:
        """Write one line, made smaller until it fits into `width` pixels (0: no limit); returns the x of its right end.

        `outline` pixels of black around the letters make them legible on a picture.
        """
        face = font(size, bold)
        while width and size > 10 and face.getlength(words) > width:
            size -= 1
            face = font(size, bold)
        if width and face.getlength(words) > width:
            while words and face.getlength(words + "…") > width:
                words = words[:-1]
            words += "…"
        self.draw.text((x, y), words, fill=fill, font=face, anchor=anchor, stroke_width=outline, stroke_fill=(0, 0, 0))
        return x + face.getlength(words)

    def paragraph(
        self, x: float, y: float, words: str, size: int, width: float, *, fill: Colour = TEXT, bold: bool = False
    ) -> float:
        """Write words in as many lines as they need; returns the y below the last."""
        for line in wrapped(words, size, width, bold):
            self.text(x, y, line, size, fill=fill, bold=bold, width=width)
            y += round(size * 1.35)
        return y

    def paste(self, picture: RgbArray, x: int, y: int) -> None:
        """Put a colour picture with its upper left corner at (x, y)."""
        self.image.paste(Image.fromarray(picture), (x, y))

    def letters(self, x: int, y: int, width: int, height: int, size: int, names: str = "RLAP") -> None:
        """Direction letters at the left, right, upper and lower edge of a slice picture; by default those of an axial one."""
        face = font(size, bold=True)
        places = ((4, height / 2, "lm"), (width - 4, height / 2, "rm"), (width / 2, 2, "ma"), (width / 2, height - 2, "md"))
        for letter, (dx, dy, anchor) in zip(names, places, strict=True):
            self.draw.text((x + dx, y + dy), letter, fill=CAUTION, font=face, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))

    def research_label(self, y: int, height: int, size: int) -> None:
        """The research label, across the whole width: every page has it."""
        self.draw.rectangle((0, y, self.image.width, y + height), fill=CAUTION)
        middle = (self.image.width / 2, y + height / 2)
        self.draw.text(middle, RESEARCH_LABEL.upper(), fill=(0, 0, 0), font=font(size, bold=True), anchor="mm")

    def banner(self, words: str, below: str, y: float) -> None:
        """Words across the whole page, slanting and translucent, so that no part of the page is shown without them."""
        width, height = self.image.width, 300
        strip = Image.new("RGBA", (round(width * 1.3), height), (0, 0, 0, 0))
        draw = ImageDraw.Draw(strip)
        for text, size, top in ((words, 118, 100), (below, 56, 210)):
            draw.text(
                (strip.width / 2, top),
                text,
                fill=(*CAUTION, 190),
                font=font(size, bold=True),
                anchor="mm",
                stroke_width=3,
                stroke_fill=(0, 0, 0, 190),
            )
        turned = strip.rotate(24, Image.Resampling.BICUBIC, expand=True)
        self.image.paste(turned, (round((width - turned.width) / 2), round(y - turned.height / 2)), turned)

    def map_bar(self, x: int, y: int, width: int, height: int) -> None:
        """Horizontal colour bar of the core map, from the first tinted value to 100, with the outline's value marked."""
        values = np.linspace(MAP_VISIBLE_FROM, 100, width).round().astype(np.intp)
        self.paste(np.broadcast_to(tint()[values][None], (height, width, 3)).copy(), x, y)
        mark = x + round((CORE_MAP_THRESHOLD - MAP_VISIBLE_FROM) / (100 - MAP_VISIBLE_FROM) * width)
        self.draw.line((mark, y - 3, mark, y + height + 2), fill=CONTOUR, width=3)

    def pixels(self) -> RgbArray:
        """The page as uint8, shape (rows, columns, 3)."""
        return np.asarray(self.image, np.uint8)


def wrapped(words: str, size: int, width: float, bold: bool = False) -> list[str]:
    """Break words into lines of at most `width` pixels."""
    face, lines = font(size, bold), [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
