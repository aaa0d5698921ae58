"""The stages of the pipeline: what each does in the case folder (`STAGE_BODIES`), and the files that one leaves for the next.

`worker.stages.attempts` runs a stage for a case of the ledger.
"""

from worker.stages.bodies import STAGE_BODIES, StageInput
from worker.stages.case_files import FindingRecord, PreparedRecord
from worker.stages.prepare import AlignedSource, DicomSource

__all__ = ["STAGE_BODIES", "AlignedSource", "DicomSource", "FindingRecord", "PreparedRecord", "StageInput"]
