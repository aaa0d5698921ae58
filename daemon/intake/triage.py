"""Triage of a complete series: queue it for analysis, or end its case as not analysed with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from config.settings import Settings
from corewatch.identity import case_key
from corewatch.messages import Work
from corewatch.reasons import Reason
from corewatch.selection import Rejected, select
from corewatch.states import WITHOUT_RESULT, CaseState, Stage
from ledger.cases import Case
from ledger.intake import ReceivingSeries
from ledger.store import Ledger

log = structlog.get_logger()

BY_PRODUCTS = frozenset(
    {
        Reason.NOT_CT,
        Reason.NOT_A_VOLUME,
        Reason.NOT_A_HEAD,
        Reason.NO_CONTRAST,
        Reason.NOT_AXIAL,
        Reason.EXCLUDED_BY_RULE,
    }
)
"""Reasons of series that every study contains which a PACS forwards. The worklist lists them, but no mail is sent for a series that
was received together with others: among ten such mails per patient the one that matters would be overlooked."""

HALF_COPIED = frozenset({Reason.TOO_FEW_SLICES, Reason.TOO_LITTLE_COVERAGE, Reason.IRREGULAR_GEOMETRY})
"""Reasons that half a copy of a head has."""
COPY_BROKEN_OFF = "The copy into the watched folder looks broken off: drop the whole series again."

FILES_GONE = "Images of the series are no longer on the disk. Send the whole series again, and it is analysed."


class Triage:
    """Moves cases out of `receiving`. Every method is idempotent, so that it may be repeated after a crash.

    Attributes
    ----------
    moved
        Number of cases it has moved so far.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._received = settings.received_dir
        self._rules = tuple(rule.to_rule() for rule in settings.series.rules)
        self._notices = settings.deliver.notices
        self.moved = 0

    def triage(self, series: ReceivingSeries, *, solicited: bool, dropped: bool = False) -> None:
        """Queue a complete series or end it with its reason, and let it supersede earlier revisions without a result.

        Parameters
        ----------
        solicited
            Somebody sent this series alone, or dropped it into a folder, and waits for an answer whatever the reason is.
        dropped
            It was dropped into a folder: half a head is probably a copy that was broken off.
        """
        case = self._ledger.cases.get(series.case_id)
        if case is None or case.state is not CaseState.RECEIVING:
            return
        key = case_key(series.series_uid, (i.sop_instance_uid for i in series.instances))
        other = self._ledger.intake.hand_over_key(key, case.case_id)
        if other is not None:
            self._leave_to(other, case)
            return
        if self.missing_files(case):
            self.fail(case, FILES_GONE, key=key)
            return
        answer = select(series.instances, self._rules)
        if isinstance(answer, Rejected):
            # a PACS that forwards whole studies also sends our own results back: no mail for those
            if dropped and answer.reason in HALF_COPIED:
                answer = replace(answer, detail=f"{answer.detail} {COPY_BROKEN_OFF}".strip())
            notify = answer.reason is not Reason.OWN_RESULT and (solicited or answer.reason not in BY_PRODUCTS)
            self._reject(case, answer, key, notify=notify)
        else:
            self.moved += self._ledger.cases.advance(
                case.case_id,
                CaseState.RECEIVING,
                CaseState.QUEUED,
                work=[Work(Stage.PREPARE, case.case_id)],
                case_key=key,
                model=answer.model,
            )
            log.info(
                "case_queued", case=case.case_id, instances=len(series.instances), revision=case.revision, rule=answer.rule_name
            )
        self.supersede(series.series_uid)

    def queue_aligned(self, case_id: str) -> None:
        """Queue an aligned head; the stage that reads its file checks it."""
        moved = self._ledger.cases.advance(case_id, CaseState.RECEIVING, CaseState.QUEUED, work=[Work(Stage.PREPARE, case_id)])
        self.moved += moved
        if moved:
            log.info("case_queued", case=case_id, aligned=True)

    def triage_single_file(self, case: Case) -> None:
        """Queue the case of an aligned head; end the case of any other single file with the reason it was opened with."""
        if case.aligned_path is not None:
            self.queue_aligned(case.case_id)
        else:
            self.reject_single_file(case.case_id, case.reason or Reason.UNREADABLE, case.detail)

    def reject_single_file(self, case_id: str, reason: Reason, detail: str) -> None:
        """End the case of files that cannot be analysed."""
        self.moved += self._ledger.deliveries.plan(
            case_id,
            CaseState.RECEIVING,
            CaseState.NOT_ANALYSED,
            dict.fromkeys(self._notices),
            reason=reason,
            detail=detail,
        )
        log.warning("case_not_analysed", case=case_id, reason=str(reason), detail=detail)

    def fail(self, case: Case, why: str, *, key: str | None = None) -> None:
        """End a case as failed, for an operator to look at."""
        facts: dict[str, Any] = {} if key is None or case.case_key is not None else {"case_key": key}
        self.moved += self._ledger.deliveries.plan(
            case.case_id,
            case.state,
            CaseState.FAILED,
            dict.fromkeys(self._notices),
            detail=why,
            failed_stage=Stage.PREPARE,
            **facts,
        )
        log.error("case_failed", case=case.case_id, why=why)

    def missing_files(self, case: Case) -> list[Path]:
        """Files of the case that the ledger lists and that are not on the disk."""
        names = [case.aligned_path] if case.aligned_path is not None else self._ledger.cases.instance_paths(case)
        return [path for name in names if not (path := self._received / name).exists()]

    def supersede(self, series_uid: str) -> None:
        """Let the newest decided revision supersede earlier ones, unless one of them has a result or is in work.

        Only another result replaces a result (`Cases.advance` to `delivering`): a stray instance that spoils a series does not
        withdraw one.
        """
        revisions = sorted(self._ledger.cases.find(series_uid=series_uid), key=lambda c: c.revision)
        current = [c for c in revisions if c.state not in {CaseState.SUPERSEDED, CaseState.RECEIVING}]
        if len(current) < 2 or any(c.state not in WITHOUT_RESULT for c in current[:-1]):
            return
        newest = current[-1].case_id
        for case_id in self._ledger.cases.supersede_earlier(newest):
            log.info("case_superseded", case=case_id, by=newest)

    def _leave_to(self, other: str, case: Case) -> None:
        """End a revision whose instances belong to another case: an operator retried that one while they were received."""
        self.moved += self._ledger.cases.advance(
            case.case_id,
            CaseState.RECEIVING,
            CaseState.SUPERSEDED,
            superseded_by=other,
            detail=f"The same images are case {other}.",
        )
        log.info("case_superseded", case=case.case_id, by=other)

    def _reject(self, case: Case, answer: Rejected, key: str, *, notify: bool) -> None:
        notices: dict[str, str | None] = dict.fromkeys(self._notices) if notify else {}
        self.moved += self._ledger.deliveries.plan(
            case.case_id,
            CaseState.RECEIVING,
            CaseState.NOT_ANALYSED,
            notices,
            reason=answer.reason,
            detail=answer.detail,
            case_key=key,
        )
        log.info("case_not_analysed", case=case.case_id, reason=str(answer.reason), detail=answer.detail, revision=case.revision)
