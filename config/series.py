"""Settings of series: which ones are analysed, and when a series is complete."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from config.section import Section
from corewatch import series_words
from corewatch.selection import Rule


class SeriesRule(Section):
    """Which series count as a CTA head. The first rule that matches decides; a series without a matching rule is not analysed.

    The patterns are regular expressions, searched in descriptions in which underscores are replaced by spaces; an empty pattern
    always matches. A rule with `include: false` must set `text`; its other conditions apply only where they are set.
    """

    name: str
    """Name of the rule, for the log and `not analysed` reasons."""
    include: bool = True
    """False: a matching series is not analysed (`excluded_by_rule`)."""
    text: str = series_words.HEAD_TEXT
    """Must be found in the body part, the study or series description, or the protocol name."""
    elsewhere_text: str = series_words.ELSEWHERE_TEXT
    """Other body parts: a series whose body part or series description matches this, and not `text`, is not a head."""
    not_text: str = series_words.NOT_TEXT
    """Must not be found in the series description: projections, reformats, bolus monitoring, perfusion maps, late phases and other
    by-products."""
    not_kernel: str = series_words.NOT_KERNEL
    """Must not be found in the convolution kernel: sharp reconstructions for bone and lung."""
    contrast: bool = True
    """Require a sign of contrast medium in the series: agent, route or volume in the header, or `contrast_text` in the series
    description. Agent and route are read in many languages ("ohne KM" and "oral" are no sign). Study description and protocol name
    do not count, since the native series of the same examination has the same ones."""
    contrast_text: str = series_words.CONTRAST_TEXT
    """Signs of contrast medium in a series description."""
    native_text: str = series_words.NATIVE_TEXT
    """Signs of a native series in its description; they outweigh a sign of contrast in the description or in the header,
    not both together. "With and without" is no such sign."""
    min_slices: int = Field(40, ge=1)
    """Smallest number of slices."""
    min_coverage_mm: float = Field(100.0, ge=0)
    """Smallest distance in mm from the first to the last slice."""
    max_slice_step_mm: float = Field(5.0, gt=0)
    """Largest slice thickness and largest distance between neighbouring slices, in mm."""
    multi_energy: bool = False
    """Also analyse virtual monoenergetic images, and derived images of a multi-energy acquisition of an unnamed kind.
    The model knows images of one tube voltage, so their volumes are not those that it was tested with."""
    model: str | None = None
    """Model for matching series; null: `model.name`."""

    @model_validator(mode="before")
    @classmethod
    def _exclusion_asks_only_what_it_names(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("include", True) is not False:
            return data
        if not data.get("text"):
            raise ValueError("a rule with include: false must set text, or it would exclude every head")
        nothing = {
            "elsewhere_text": "",
            "not_text": "",
            "not_kernel": "",
            "contrast": False,
            "native_text": "",
            "min_slices": 1,
            "min_coverage_mm": 0.0,
            "max_slice_step_mm": 1000.0,
        }
        return nothing | data

    @field_validator("text", "elsewhere_text", "not_text", "not_kernel", "contrast_text", "native_text")
    @classmethod
    def _pattern_compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def to_rule(self) -> Rule:
        """The rule as a value of `corewatch.selection`."""
        return Rule(**self.model_dump())


class SeriesSettings(Section):
    """When a series is complete, and which series are analysed."""

    idle_s: float = Field(20.0, gt=0)
    """Seconds without a new image after which a series counts as complete in any case."""
    short_wait_s: float = Field(60.0, ge=0)
    """The same for a series with fewer images than its sender announced, while the association that may bring them is open."""
    retry_wait_s: float = Field(120.0, ge=0)
    """The same for a series whose transfer was interrupted: corewatch was stopped or did not listen, or the connection broke within
    an image. It is the longest time in which the sender tries again, counted from the moment that the listener accepts associations
    again. A series with all announced images does not wait for it."""
    grace_s: float = Field(1.0, ge=0)
    """The same when the association was released and the slices form a regular stack."""
    expected: Literal["header", "query"] = "header"
    """Where the expected number of images is read: `header`: (0020,1209), which few senders fill in; `query`: also by C-FIND at the
    sending PACS, if `sources` has its AE title. `sources.expected` overrides this per PACS. A PACS that does not answer delays
    nothing."""
    converter: Literal["corewatch", "dicom2nifti"] = "corewatch"
    """Converter of DICOM series to a volume. `dicom2nifti` takes neither a tilted gantry nor irregular steps, and more time and
    memory; where both take a series, their volumes are equal."""
    rules: tuple[SeriesRule, ...] = (SeriesRule(name="cta-head"),)
    """Rules for which series are analysed, in order."""
