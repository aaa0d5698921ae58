"""Coded concepts in our objects: SNOMED CT, DCM and UCUM codes, and codes of a private scheme where these have none."""

from __future__ import annotations

from typing import Final

from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from corewatch import RESEARCH_LABEL
from corewatch.cautions import CautionCode
from corewatch.findings import ModelIdentity, Side
from corewatch.identity import derived_uid
from outputs.dicom.object_kinds import as_ascii

OWN_SCHEME: Final = "99COREWATCH"
"""Coding Scheme Designator (0008,0102) of our private codes; a private one begins with 99 (PS3.16 8.2)."""


def _own(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, OWN_SCHEME, meaning)


ABNORMAL = CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
INFARCT = CodedConcept("55641003", "SCT", "Infarct")
BRAIN = CodedConcept("12738006", "SCT", "Brain")
VOLUME = CodedConcept("118565006", "SCT", "Volume")
LATERALITY = CodedConcept("272741003", "SCT", "Laterality")
SIDES: Final = {
    Side.LEFT: CodedConcept("7771000", "SCT", "Left"),
    Side.RIGHT: CodedConcept("24028007", "SCT", "Right"),
    Side.NONE: _own("SIDE-UNCLEAR", "No clear side"),
}
TENTH_PERCENTILE = CodedConcept("371890005", "SCT", "Tenth percentile")
NINETIETH_PERCENTILE = CodedConcept("371887004", "SCT", "Ninetieth percentile")
YES = CodedConcept("373066001", "SCT", "Yes")
NO = CodedConcept("373067005", "SCT", "No")
CT_OF_HEAD = CodedConcept("303653007", "SCT", "Computed tomography of head")
ANGIOGRAPHY = CodedConcept("77343006", "SCT", "Angiography")
ARTIFICIAL_INTELLIGENCE = codes.cid7162.ArtificialIntelligence
SEGMENTATION = CodedConcept("113076", "DCM", "Segmentation")

MILLILITRE = CodedConcept("mL", "UCUM", "milliliter")
MILLIMETRE = CodedConcept("mm", "UCUM", "millimeter")
DEGREE = CodedConcept("deg", "UCUM", "degree")
PERCENT = CodedConcept("%", "UCUM", "Percent")
RATIO = CodedConcept("1", "UCUM", "no units")

EVIDENCE = _own("CORE-MAP", "Evidence of ischemic core, percent of the map's maximum")
ALERT_THRESHOLD = _own("ALERT-THRESHOLD", "Core volume from which the result is an alert")
ALERT = _own("ALERT", "Core volume at or above the alert threshold")
UNSTABLE = _own("UNSTABLE", "Placement range of the core volume crosses the alert threshold")
ESTIMATE = _own("NETWORK-ESTIMATE", "Estimate of a neural network, apart from any outline")
ALIGNMENT_SCORE = _own("ALIGNMENT-SCORE", "Quality of the alignment, 0 to 1")
MIDLINE_OFFSET = _own("MIDLINE-OFFSET", "Offset left at the midline after alignment")
MIDLINE_ANGLE = _own("MIDLINE-ANGLE", "Angle left at the midline after alignment")
INTENDED_USE = _own("INTENDED-USE", "Intended use of the result")
RESEARCH_USE = _own("RESEARCH-ONLY", RESEARCH_LABEL)
MODEL_TRAINING = _own("MODEL-TRAINING", "What the model was trained on")
MODEL_ERROR = _own("MODEL-RMSE", "Root mean square error of the model on its validation data")
CAUTION = _own("CAUTION", "Caution about the result")
REMARK = _own("REMARK", "Remark about the result")
CAUTIONS: Final = {
    CautionCode.RULE_OVERRIDDEN: _own("RULE-OVERRIDDEN", "Analysed although a rule turns the series away"),
    CautionCode.DENSE_REGION: _own("DENSE-REGION", "Dense region, haemorrhage? The estimate does not hold"),
    CautionCode.NO_ENHANCEMENT: _own("NO-ENHANCEMENT", "No enhanced arteries. The estimate does not hold"),
    CautionCode.LITTLE_ENHANCEMENT: _own("LITTLE-CONTRAST", "Arteries hardly enhanced"),
    CautionCode.HU_LEVEL: _own("HU-LEVEL", "Unusual Hounsfield units of the brain"),
    CautionCode.HU_CORRECTED: _own("HU-CORRECTED", "Hounsfield units were corrected"),
    CautionCode.NOISE: _own("NOISE", "Noisy images"),
    CautionCode.THICK_SLICES: _own("THICK-SLICES", "Thick slices"),
    CautionCode.SHARP_KERNEL: _own("SHARP-KERNEL", "Sharp reconstruction kernel"),
    CautionCode.LITTLE_COVERAGE: _own("LITTLE-COVERAGE", "Part of the brain is not in the images"),
    CautionCode.SIDE_UNCERTAIN: _own("SIDE-UNCERTAIN", "Side uncertain"),
}
DEMONSTRATION = _own("DEMONSTRATION", "Demonstration model, not trained on patients")


def coding_schemes() -> list[Dataset]:
    """Coding Scheme Identification Sequence (0008,0110), which identifies our private scheme (PS3.3 C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = OWN_SCHEME
    item.CodingSchemeUID = derived_uid("corewatch", None, "coding-scheme")
    item.CodingSchemeName = "corewatch"
    item.CodingSchemeResponsibleOrganization = "corewatch"
    return [item]


def algorithm(model: ModelIdentity) -> AlgorithmIdentificationSequence:
    """Name, version and digest of the model (PS3.3 table 10-19)."""
    return AlgorithmIdentificationSequence(
        name=as_ascii(model.name)[:64],
        family=ARTIFICIAL_INTELLIGENCE,
        version=as_ascii(model.version)[:64],
        source="corewatch",
        parameters={"sha256": model.sha256},
    )
