"""A rule that an operator overrode is a caution of the result."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from corewatch.casefolder import CaseFolder
from corewatch.cautions import Caution, CautionCode
from corewatch.reasons import Reason
from worker import tasks
from worker.stages import bodies
from worker.stages.case_files import PreparedRecord


def test_the_record_of_prepare_names_the_overridden_rule_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thick = Caution(CautionCode.THICK_SLICES, "5 mm")
    record = PreparedRecord(None, (), None, np.eye(4), None, convert_s=1.0, align_s=1.0, cautions=(thick,))
    monkeypatch.setattr(bodies, "prepare", lambda *_a, **_k: record)
    folder = CaseFolder(tmp_path / "case")
    folder.path.mkdir()
    override = Caution(CautionCode.RULE_OVERRIDDEN, Reason.NOT_A_HEAD.sentence)
    settings: Any = SimpleNamespace(work=SimpleNamespace(min_alignment_score=None), series=SimpleNamespace(converter="corewatch"))
    case: Any = SimpleNamespace(
        source=None, folder=folder, settings=settings, progress=None, on_aligned=None, known_cautions=(override,)
    )
    assert bodies.run_prepare(case).cautions == (override, thick)
    assert PreparedRecord.read(folder).cautions == (override, thick)


@pytest.mark.parametrize("reason", [None, Reason.NOT_A_HEAD])
def test_a_case_of_the_ledger_knows_the_override_from_the_audit_trail(reason: Reason | None) -> None:
    context: Any = SimpleNamespace(
        ledger=SimpleNamespace(operator_actions=SimpleNamespace(override_of=lambda case_id: reason if case_id == "c" else None))
    )
    case: Any = SimpleNamespace(case_id="c")
    found = tasks.LedgerCase(context, case).known_cautions
    assert [one.code for one in found] == ([] if reason is None else [CautionCode.RULE_OVERRIDDEN])
    assert all(one.sentence.endswith(Reason.NOT_A_HEAD.sentence) for one in found)
