"""`corewatch cases`: lists and shows cases of the ledger; retry, deliver, reanalyse, cancel and acknowledge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command_group import UsageProblem
from cli.options import config_option, json_option, operator_name, settings_of
from corewatch.clock import utc_now
from corewatch.errors import ConfigurationError
from corewatch.operator_actions import ACTIONS, Action, remedy
from corewatch.reasons import Reason
from corewatch.states import CaseState

if TYPE_CHECKING:
    from ledger.cases import Case
    from ledger.store import Ledger

CANCELLABLE = frozenset(state for state, actions in ACTIONS.items() if Action.CANCEL in actions)
"""States that may change to `not_analysed`; a case that is being delivered has its result already."""


@click.group(help="List and show cases; retry, deliver, reanalyse, cancel or acknowledge them.")
@config_option
def cases(config_file: Path | None) -> None:
    """Group of commands."""


@cases.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([str(s) for s in CaseState]), help="Only these; may be repeated."
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@config_option
@json_option
def list_cases(config_file: Path | None, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List cases, newest first."""
    from cli.case_tables import print_json, print_list, summary_of

    with _ledger(config_file) as ledger:
        found = ledger.cases.find(states=[CaseState(s) for s in states], limit=limit)
    if as_json:
        print_json([summary_of(case) for case in found])
    else:
        print_list(found, utc_now(), limit)


@cases.command()
@click.argument("case_id")
@config_option
@json_option
def show(config_file: Path | None, case_id: str, as_json: bool) -> None:
    """Show one case, its deliveries and its history."""
    from cli.case_tables import details_of, print_details, print_json

    settings = settings_of(config_file)
    with _ledger(config_file) as ledger:
        case = _known(ledger, case_id)
        deliveries, history = ledger.deliveries.of(case_id), ledger.cases.history(case_id)
    if as_json:
        print_json(details_of(case, deliveries, history, settings.cases_dir / case_id))
    else:
        print_details(case, deliveries, history, settings.cases_dir / case_id)


@cases.command()
@click.argument("case_ids", nargs=-1, required=True, metavar="CASE_ID...")
@click.option(
    "--although-excluded", is_flag=True, help="Analyse also a series that a rule turns away; the result and the audit trail say so."
)
@config_option
@json_option
def retry(config_file: Path | None, case_ids: tuple[str, ...], although_excluded: bool, as_json: bool) -> None:
    """Restart cases at the stage where they ended."""
    from cli.case_actions import restart
    from cli.case_tables import print_json

    settings = settings_of(config_file)
    answers: dict[str, str] = {}
    with _ledger(config_file) as ledger:
        for case in [_known(ledger, case_id) for case_id in case_ids]:
            answers[case.case_id] = restart(ledger, settings, case, although_excluded=although_excluded)
            if not as_json:
                click.echo(f"{case.case_id}: starts again at {answers[case.case_id]}")
    if as_json:
        print_json(answers)


@cases.command()
@click.argument("case_id", metavar="CASE_ID")
@click.argument("destinations", nargs=-1, metavar="[DESTINATION...]")
@config_option
@json_option
def deliver(config_file: Path | None, case_id: str, destinations: tuple[str, ...], as_json: bool) -> None:
    """Send a result now to destinations that do not have it, whatever they wait for."""
    from cli.case_actions import deliver_now
    from cli.case_tables import print_json

    with _ledger(config_file) as ledger:
        due = deliver_now(ledger, settings_of(config_file), _known(ledger, case_id), destinations)
    if as_json:
        print_json({case_id: due})
    else:
        click.echo(f"{case_id}: is sent now to {', '.join(due)}")


@cases.command()
@click.argument("case_id", metavar="CASE_ID")
@click.option("--model", metavar="NAME", default=None, help="Another model, by its folder's name.")
@config_option
@json_option
def reanalyse(config_file: Path | None, case_id: str, model: str | None, as_json: bool) -> None:
    """Analyse the images of a case that has a result again, as its next revision."""
    from cli.case_actions import analyse_again
    from cli.case_tables import print_json

    with _ledger(config_file) as ledger:
        new_id = analyse_again(ledger, settings_of(config_file), _known(ledger, case_id), model)
    if as_json:
        print_json({case_id: new_id})
    else:
        click.echo(f"{case_id}: is analysed again as case {new_id}, which replaces it when it has its result")


@cases.command()
@click.argument("case_id", metavar="CASE_ID")
@click.option("--by", metavar="NAME", default=None, help="Who has seen the alert; default: the user of this machine.")
@config_option
@json_option
def acknowledge(config_file: Path | None, case_id: str, by: str | None, as_json: bool) -> None:
    """Record who has seen an alert, which ends its escalation."""
    from cli.case_tables import print_json

    with _ledger(config_file) as ledger:
        alert = ledger.alerts.acknowledge(_known(ledger, case_id).case_id, by or operator_name(), "operators")
    if alert is None:
        raise UsageProblem(f"case {case_id} has no alert")
    if as_json:
        print_json({case_id: {"acknowledged_by": alert.acknowledged_by, "acknowledged_at": str(alert.acknowledged_at)}})
    else:
        click.echo(f"{case_id}: acknowledged by {alert.acknowledged_by}")


@cases.command()
@click.argument("case_ids", nargs=-1, required=True, metavar="CASE_ID...")
@config_option
@json_option
def cancel(config_file: Path | None, case_ids: tuple[str, ...], as_json: bool) -> None:
    """End cases that have no result yet, as not analysed."""
    from cli.case_tables import print_json

    answers: dict[str, str] = {}
    with _ledger(config_file) as ledger:
        for case in [_known(ledger, case_id) for case_id in case_ids]:
            _cancel(ledger, case.case_id)
            answers[case.case_id] = str(CaseState.NOT_ANALYSED)
            if not as_json:
                click.echo(f"{case.case_id}: cancelled")
    if as_json:
        print_json(answers)


def _cancel(ledger: Ledger, case_id: str) -> None:
    # a worker may change the state between reading and cancelling, at most once per stage
    for _ in CANCELLABLE:
        case = _known(ledger, case_id)
        if case.state not in CANCELLABLE:
            break
        if ledger.cases.advance(case_id, case.state, CaseState.NOT_ANALYSED, reason=Reason.CANCELLED):
            ledger.note("operator.cancelled", case_id, by=operator_name())
            return
    case = _known(ledger, case_id)
    raise UsageProblem(
        f"case {case_id} is {case.state}: it can no longer be cancelled", remedy(case.state, case_id, case.superseded_by)
    )


def _known(ledger: Ledger, case_id: str) -> Case:
    case = ledger.cases.get(case_id)
    if case is None:
        raise UsageProblem(f"there is no case {case_id}", "`corewatch cases list` shows the cases")
    return case


@contextmanager
def _ledger(config_file: Path | None) -> Iterator[Ledger]:
    """The ledger, which must exist: no empty database is made in the wrong place."""
    from ledger.store import Ledger

    settings = settings_of(config_file)
    if settings.database.url is None and not (settings.data_dir / "ledger.sqlite").exists():
        raise ConfigurationError(
            f"data_dir: there is no ledger in {settings.data_dir}", "name the settings file of the running corewatch with --config"
        )
    ledger = Ledger(settings.database_url, lease_s=settings.work.lease_s)
    try:
        yield ledger
    finally:
        ledger.close()
