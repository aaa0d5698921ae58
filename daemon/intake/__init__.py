"""Intake: from files in the spool to queued cases.

The path of an arrival: `assembler` runs `spool_indexer` (with `arrivals` and `instance_checks`), asks `expected_counts`, decides
when a series is complete, and hands it to `triage`. `recovery` runs once, at the start.
"""

from daemon.intake.assembler import Assembler
from daemon.intake.expected_counts import ExpectedCounts
from daemon.intake.triage import Triage

__all__ = ["Assembler", "ExpectedCounts", "Triage"]
