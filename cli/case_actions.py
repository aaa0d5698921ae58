"""Actions of an operator on one case: refused with a way that works where the case's state does not allow them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cli.command_group import UsageProblem
from cli.options import operator_name
from config.settings import Settings
from corewatch.errors import NotAnalysed
from corewatch.operator_actions import ACTIONS, Action, remedy
from corewatch.selection import Rejected, select
from corewatch.states import CaseState
from ledger.cases import Case
from ledger.store import Ledger

_SEND_AGAIN = "send the whole series again; it is then analysed"


def restart(ledger: Ledger, settings: Settings, case: Case, *, although_excluded: bool) -> str:
    """Restart a case at the stage where it ended; returns the stage.

    A series that was never selected for analysis, by a rule or because it was cancelled while it was received, is selected by the
    present rules first.

    Raises
    ------
    UsageProblem
        Its state does not allow it, its images are gone, another case has them, or a rule turns it away.
    """
    _check_possible(case, Action.RETRY, "there is nothing to retry")
    if case.aligned_path is None and case.series_uid is None:
        raise UsageProblem(f"case {case.case_id} holds no image that could be read", _SEND_AGAIN)
    if case.state is CaseState.FAILED or case.series_uid is None or ledger.operator_actions.was_queued(case.case_id):
        stage = ledger.cases.retry(case.case_id)
        if stage is not None:
            ledger.note("operator.retried", case.case_id, by=operator_name(), stage=str(stage))
            return str(stage)
        if case.series_uid is None:
            raise UsageProblem(f"case {case.case_id} gave its images to a later case", "`corewatch cases list` shows it")
    return _select_and_queue(ledger, settings, case, although_excluded=although_excluded)


def _select_and_queue(ledger: Ledger, settings: Settings, case: Case, *, although_excluded: bool) -> str:
    _check_files(ledger, settings, case)
    answer = select(ledger.operator_actions.instances_of(case.case_id), [rule.to_rule() for rule in settings.series.rules])
    although, model = None, None
    if isinstance(answer, Rejected):
        if not although_excluded:
            raise UsageProblem(
                f"case {case.case_id} would be turned away again: {NotAnalysed(answer.reason, answer.detail)}",
                "change the rules in `series.rules`, or repeat the command with --although-excluded",
            )
        although = answer.reason
    else:
        model = answer.model
    held = ledger.operator_actions.queue(case.case_id, model, by=operator_name(), although=although)
    if held is not None:
        raise UsageProblem(f"the same images are case {held.case_id}", f"`corewatch cases show {held.case_id}`")
    return "prepare"


def deliver_now(ledger: Ledger, settings: Settings, case: Case, destinations: Sequence[str]) -> list[str]:
    """Make open and refused deliveries due now; returns their names.

    Raises
    ------
    UsageProblem
        The case has no such delivery, or there is nothing to deliver.
    """
    from worker.delivery.circuit_breaker import CircuitBreaker

    _check_possible(case, Action.DELIVER, "there is nothing to deliver yet")
    known = {one.destination: one for one in ledger.deliveries.of(case.case_id)}
    for name in destinations:
        if name not in known:
            raise UsageProblem(
                f"case {case.case_id} has no delivery to {name}", f"its destinations: {', '.join(sorted(known)) or 'none'}"
            )
    due = ledger.operator_actions.deliver(case.case_id, by=operator_name(), destinations=destinations or None)
    if not due:
        states = ", ".join(f"{name} {one.state}" for name, one in known.items() if not destinations or name in destinations)
        raise UsageProblem(
            f"case {case.case_id} has nothing to deliver: {states or 'no destinations'}",
            remedy(case.state, case.case_id, besides=Action.DELIVER),
        )
    CircuitBreaker(settings.data_dir, settings.work.deliver_processes).close_all()
    return sorted(due)


def analyse_again(ledger: Ledger, settings: Settings, case: Case, model: str | None) -> str:
    """Open the next revision of a case that has a result; returns its id.

    Raises
    ------
    UsageProblem
        The case has no result, is not the newest revision, is an aligned head, or its images are gone.
    ModelNotFound
        There is no such model.
    """
    from worker.models.registry import find_model

    _check_possible(case, Action.REANALYSE, "there is no result that could be replaced")
    if case.series_uid is None:
        raise UsageProblem(
            f"case {case.case_id} is an aligned head without a series",
            "`corewatch run FILE --aligned --model NAME` analyses it again",
        )
    if model is not None:
        find_model(model, settings.models_dir)
    _check_files(ledger, settings, case)
    try:
        return ledger.operator_actions.reanalyse(case.case_id, by=operator_name(), model=model)
    except LookupError as newest:
        raise UsageProblem(
            f"case {case.case_id} is not the newest revision of its series", f"act on case {newest} instead"
        ) from None


def _check_possible(case: Case, action: Action, otherwise: str) -> None:
    if action not in ACTIONS[case.state]:
        raise UsageProblem(
            f"case {case.case_id} is {case.state}: {otherwise}", remedy(case.state, case.case_id, case.superseded_by)
        )


def _check_files(ledger: Ledger, settings: Settings, case: Case) -> None:
    missing = [path for path in ledger.cases.instance_paths(case) if not Path(settings.received_dir / path).exists()]
    if missing:
        raise UsageProblem(f"{len(missing)} images of case {case.case_id} are no longer on the disk", _SEND_AGAIN)
