"""Kinds of CT images that Image Type (0008,0008) names: pages, projections, maps, and images computed from other images.

Sources: PS3.3 C.8.2.1.1.1 (CT), C.8.15.3.1 and C.8.15.3.8 (Enhanced CT, values 3 and 4), C.8.16.1, and the manufacturers'
conformance statements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

from corewatch.header_text import MAX_TEXT


class Computed(Enum):
    """Kinds of images that look like CT slices, with other values than the scanner's reconstruction of one moment."""

    MONOENERGETIC = "They are virtual monoenergetic images, with other values than the model knows."
    MATERIAL = "They are images of one material, computed from a multi-energy acquisition."
    MATERIAL_REMOVED = "A material was removed from them by computation from a multi-energy acquisition."
    VIRTUAL_NON_CONTRAST = "Contrast medium was removed from them by computation."
    PRE_CONTRAST = "Image Type says that they were made before contrast medium."
    OTHER_MULTI_ENERGY = "They are computed from a multi-energy acquisition in a way that the header does not name."
    SUBTRACTION = "They are the difference of two acquisitions."
    COMBINATION = "They are computed from several images (mean, sum, deviation)."
    ATTENUATION = "They are made for the attenuation correction of a PET or SPECT."
    DYNAMIC = "They belong to a dynamic acquisition (perfusion, fluoroscopy, bolus monitoring)."
    LATE = "Image Type names a late or venous phase."


MULTI_ENERGY: Final = frozenset({Computed.MONOENERGETIC, Computed.OTHER_MULTI_ENERGY})
"""Kinds that a rule can allow (`multi_energy`): a photon-counting scanner has no others."""

WITHOUT_CONTRAST: Final = frozenset({Computed.VIRTUAL_NON_CONTRAST, Computed.PRE_CONTRAST})
"""Kinds that show no contrast medium."""

PAGES: Final = {
    "LOCALIZER": "It is a localizer.",
    "TOPO": "It is a localizer.",
    "TOPOGRAM": "It is a localizer.",
    "SCOUT": "It is a localizer.",
    "PROJECTION": "It is a projection.",
    "MIP": "It is a projection.",
    "MINIP": "It is a projection.",
    "MAX IP": "It is a projection.",
    "MIN IP": "It is a projection.",
    "MAXIMUM": "It is a projection.",
    "MINIMUM": "It is a projection.",
    "PERFUSION": "It is a perfusion study or map.",
    "RCBF": "It is a perfusion map.",
    "RCBV": "It is a perfusion map.",
    "CBF": "It is a perfusion map.",
    "CBV": "It is a perfusion map.",
    "MTT": "It is a perfusion map.",
    "TTP": "It is a perfusion map.",
    "TMAX": "It is a perfusion map.",
    "VOLUME RENDERING": "It is a rendering.",
    "VOLUME RENDERED": "It is a rendering.",
    "SURFACE RENDERING": "It is a rendering.",
    "VRT": "It is a rendering.",
    "SSD": "It is a rendering.",
    "SCREEN SAVE": "It is a screen capture.",
    "SECONDARY CAPTURE": "It is a secondary capture.",
    "DOSE": "It is a dose page.",
    "DOSE INFO": "It is a dose page.",
    "PATIENT PROTOCOL": "It is a protocol page.",
    "BLACK IMAGE": "It is a page without an image.",
    "REPORT": "It is a report page.",
    "REFERENCE": "It is a reference image.",
}
"""Words of Image Type, from value 3 on, of instances that are no slices."""

_PAGE: Final = re.compile(r"(?<![A-Z])(" + "|".join(sorted(PAGES, key=len, reverse=True)) + r")(?![A-Z])")

_COMPUTED: Final = {
    Computed.VIRTUAL_NON_CONTRAST: r"VNC|VNCA|VUE|VIRTUAL (NON ?CONTRAST|NATIVE|UNENHANCED|NON)",
    Computed.PRE_CONTRAST: r"PRE ?CONTRAST|NON ?CONTRAST",
    Computed.MATERIAL_REMOVED: r"MAT(ERIAL)? REMOVED|MAT(ERIAL)? MODIFIED|BONE REMOVED|CALCIUM (REMOVED|SUPPRESSED)|CASUPP",
    Computed.MONOENERGETIC: r"VMI|MONO ?E(NERGETIC)?|MONO ?ENERG\w*|MONO ?PLUS|MONO ?CHROM\w*|MONO|\d+ ?KEV",
    Computed.MATERIAL: (
        r"MAT(ERIAL)? (SPECIFIC|VALUE BASED|FRACTIONAL|DENSITY|BASIS|DECOMP\w*)|MATERIAL|EFF(ECTIVE)? (ATOMIC NUM\w*|Z)|Z ?EFF"
        r"|ELECTRON DENSITY|RHO ?Z|IODINE\w*|IOD|IODINEMAP|WATER|CALCIUM|URIC ACID|FAT MAP|OVERLAY"
    ),
    Computed.SUBTRACTION: r"SUBTRACT\w*|SUB|DSA|DIFFERENCE",
    Computed.ATTENUATION: r"ATTENUATION|CTAC|AC ?CT",
    Computed.DYNAMIC: r"DYNAMIC|DYN|SHUTTLE|FLUOROSCOPY|BOLUS|TEST BOLUS|(PRE ?)?MONITOR(ING)?",
    Computed.COMBINATION: (
        r"MEAN|STD DEVIATION|STANDARD DEVIATION|ADDITION|DIVISION|MULTIPLICATION|MASKED|QUANTITY|T ?MIP|T ?AVG"
        r"|TEMPORAL (AVERAGE|MEAN)|RATIO"
    ),
    Computed.LATE: r"DELAY(ED)?|VENOUS|LATE",
}
_COMPUTED_WORDS: Final = {kind: re.compile(rf"(?<![A-Z0-9])({words})(?![A-Z0-9])") for kind, words in _COMPUTED.items()}

_AS_SCANNED: Final = re.compile(r"(?<![A-Z0-9])(ENERGY PROP WT|MIXED|MIX|BLENDED|STANDARD|POLYENERGETIC|CONVENTIONAL)(?![A-Z0-9])")
"""Kinds of a multi-energy acquisition that look as those of one tube voltage do."""


def page_of(image_type: Sequence[str]) -> str | None:
    """The sentence for an image that is no slice: a localizer, a projection, a page; None for others."""
    found = _PAGE.search(_words(image_type))
    return None if found is None else PAGES[found.group(1)]


def computed_kind(image_type: Sequence[str], *, multi_energy: bool = False) -> Computed | None:
    """The kind of computation that Image Type names; None for the scanner's reconstruction.

    Parameters
    ----------
    multi_energy
        Multi-energy CT Acquisition (0018,9361) is YES: derived images of which value 4 says nothing known are not taken for a
        reconstruction.

    >>> computed_kind(["DERIVED", "PRIMARY", "AXIAL", "VMI"]).name
    'MONOENERGETIC'
    """
    words = _words(image_type)
    for kind, pattern in _COMPUTED_WORDS.items():
        if pattern.search(words):
            return kind
    derived = bool(image_type) and image_type[0].strip().upper() == "DERIVED"
    return Computed.OTHER_MULTI_ENERGY if multi_energy and derived and not _AS_SCANNED.search(words) else None


def _words(image_type: Sequence[str]) -> str:
    """Values 3 and further, in capitals, with spaces for `_` and slashes between them."""
    return " / ".join(value[:MAX_TEXT] for value in image_type[2:]).upper().replace("_", " ").replace("-", " ")
