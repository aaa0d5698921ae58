"""Cautions: what was seen in the images or the answer that a reader must know before he uses the result.

A caution does not stop the analysis; a `corewatch.reasons.Reason` does. The code (the enum's value) is stable: ledger,
`result.json`, webhook and structured report contain it. Title, sentence and remedy are for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class CautionCode(StrEnum):
    """Kinds of caution, the gravest first: a page names them in this order."""

    RULE_OVERRIDDEN = "rule_overridden"
    DENSE_REGION = "dense_region"
    NO_ENHANCEMENT = "no_enhancement"
    LITTLE_ENHANCEMENT = "little_enhancement"
    HU_LEVEL = "hu_level"
    HU_CORRECTED = "hu_corrected"
    NOISE = "noise"
    THICK_SLICES = "thick_slices"
    SHARP_KERNEL = "sharp_kernel"
    LITTLE_COVERAGE = "little_coverage"
    SIDE_UNCERTAIN = "side_uncertain"


@dataclass(frozen=True, slots=True)
class _Words:
    """Texts of one code; `{}` is replaced by what was measured."""

    title: str
    sentence: str
    remedy: str
    estimate_holds: bool = True


_READ_NATIVE: Final = "Look at the CT without contrast medium before anything else"
_WITH_RESERVE: Final = "Use volume, side and map with reserve, and read the images"

_WORDS: Final = {
    CautionCode.RULE_OVERRIDDEN: _Words(
        "Analysed although a rule turns the series away",
        "An operator had the series analysed although a rule turns it away: {}.",
        "Check that it is a CT angiography of the head before you use the result.",
    ),
    CautionCode.DENSE_REGION: _Words(
        "Dense region of {}: haemorrhage?",
        "A compact dense region of {} lies in the skull where no vessel, bone or usual calcification does: haemorrhage?",
        f"{_READ_NATIVE}; the model knows no haemorrhage.",
        estimate_holds=False,
    ),
    CautionCode.NO_ENHANCEMENT: _Words(
        "No contrast medium seen in the vessels",
        "The arteries at the base of the brain are not enhanced ({}), though the series is named a CT angiography.",
        "Send the arterial phase; the model was trained on CT angiography alone.",
        estimate_holds=False,
    ),
    CautionCode.LITTLE_ENHANCEMENT: _Words(
        "Little contrast medium in the vessels",
        "The arteries at the base of the brain are hardly enhanced ({}): an early, late or failed bolus?",
        f"{_WITH_RESERVE}.",
    ),
    CautionCode.HU_LEVEL: _Words(
        "Unusual HU level: {}",
        "The brain's HU are not at the level of the heads that the model was trained on: {}.",
        f"{_WITH_RESERVE}; have the scanner's calibration and the kernel checked.",
    ),
    CautionCode.HU_CORRECTED: _Words(
        "HU level corrected by {}",
        "The HU of brain and fluid are shifted alike, so all values were corrected by {} before the analysis.",
        "Have the scanner's calibration checked.",
    ),
    CautionCode.NOISE: _Words(
        "Noisy images: {}",
        "The images are noisier than those that the model was trained on ({}); noise makes the estimate too small.",
        "Do not take a small volume for a negative result; send a smoother reconstruction.",
    ),
    CautionCode.THICK_SLICES: _Words(
        "Thick slices: {}",
        "The slices lie {} apart or are as thick; the model was trained on thin ones.",
        "Send the thinnest reconstruction; 1 mm or less is best.",
    ),
    CautionCode.SHARP_KERNEL: _Words(
        "Sharp kernel: {}",
        "The reconstruction kernel {} enhances edges and noise; the model was trained on soft-tissue kernels.",
        "Send the reconstruction with a soft-tissue kernel.",
    ),
    CautionCode.LITTLE_COVERAGE: _Words(
        "Part of the brain is missing: {}",
        "Not the whole brain lies within the slices ({}); a core outside of them is not counted.",
        "Send a series from the skull base to the vertex.",
    ),
    CautionCode.SIDE_UNCERTAIN: _Words(
        "Side uncertain",
        "The side changes with the placement of the head or in its mirror image ({}).",
        "Do not use the side of the map; read both hemispheres.",
    ),
}

ESTIMATE_DOES_NOT_HOLD: Final = "The core estimate does not hold"
"""Follows the title of a caution under which volume, side and map mean nothing."""


@dataclass(frozen=True, slots=True)
class Caution:
    """One caution about one case.

    Attributes
    ----------
    measured
        What was measured, in words with units and free of patient data: "14 mL, patient's LEFT".

    >>> Caution(CautionCode.DENSE_REGION, "14 mL, patient's LEFT").title
    "Dense region of 14 mL, patient's LEFT: haemorrhage?"
    """

    code: CautionCode
    measured: str = ""

    @property
    def title(self) -> str:
        """A few words for a headline or a list."""
        return _WORDS[self.code].title.format(self.measured)

    @property
    def sentence(self) -> str:
        """One sentence for people: what was seen."""
        return _WORDS[self.code].sentence.format(self.measured)

    @property
    def remedy(self) -> str:
        """What a reader or radiographer can do."""
        return _WORDS[self.code].remedy

    @property
    def estimate_holds(self) -> bool:
        """Whether volume, side and map still mean anything; where not, the caution is the headline."""
        return _WORDS[self.code].estimate_holds

    def to_json(self) -> dict[str, Any]:
        """The entry of `cautions` in `result.json`."""
        return {
            "code": str(self.code),
            "title": self.title,
            "text": self.sentence,
            "remedy": self.remedy,
            "measured": self.measured,
            "estimate_holds": self.estimate_holds,
        }


def in_order(cautions: Iterable[Caution]) -> tuple[Caution, ...]:
    """The cautions without repeats, the gravest first."""
    order = {code: place for place, code in enumerate(CautionCode)}
    return tuple(sorted(dict.fromkeys(cautions), key=lambda one: order[one.code]))


def voiding(cautions: Iterable[Caution]) -> Caution | None:
    """The gravest caution under which the estimate does not hold; None where it holds."""
    return next((one for one in in_order(cautions) if not one.estimate_holds), None)


def codes_of(cautions: Iterable[Caution]) -> list[str]:
    """The codes, the gravest first: what the ledger keeps."""
    return [str(code) for code in dict.fromkeys(one.code for one in in_order(cautions))]
