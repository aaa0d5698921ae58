"""What an operator may do with a case in each state: one table, read by the commands and the portal.

Every state has a way on: a case that has ended is retried, delivered again or analysed again, and one that is in work is cancelled
or comes to its end by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from corewatch.states import CaseState


class Action(StrEnum):
    """Action of an operator on a case; also the name of its command."""

    RETRY = "retry"
    """Start the stage again at which the case ended."""
    CANCEL = "cancel"
    """End a case that has no result yet."""
    DELIVER = "deliver"
    """Send to the destinations that do not have the result yet, without waiting."""
    REANALYSE = "reanalyse"
    """Analyse the same images again as the next revision."""


_S, _A = CaseState, Action
ACTIONS: Final[Mapping[CaseState, frozenset[Action]]] = {
    _S.RECEIVING: frozenset({_A.CANCEL}),
    _S.QUEUED: frozenset({_A.CANCEL}),
    _S.PREPARED: frozenset({_A.CANCEL}),
    _S.DETECTED: frozenset({_A.CANCEL}),
    _S.DELIVERING: frozenset({_A.DELIVER, _A.REANALYSE}),
    _S.DELIVERED: frozenset({_A.DELIVER, _A.REANALYSE}),
    _S.NOT_ANALYSED: frozenset({_A.RETRY, _A.DELIVER}),  # its notices are delivered
    _S.FAILED: frozenset({_A.RETRY, _A.DELIVER, _A.REANALYSE}),
    _S.SUPERSEDED: frozenset(),  # the newer revision is the one to act on
}
"""From each state, the actions that are possible."""


def remedy(state: CaseState, case_id: str, superseded_by: str | None = None, besides: Action | None = None) -> str:
    """What an operator can do instead where an action (`besides`) is not possible.

    >>> remedy(CaseState.DELIVERED, "abc")
    '`corewatch cases deliver abc` or `corewatch cases reanalyse abc` is possible'
    """
    if state is CaseState.SUPERSEDED:
        return f"act on its newest revision: `corewatch cases show {superseded_by or case_id}`"
    return " or ".join(f"`corewatch cases {action} {case_id}`" for action in sorted(ACTIONS[state] - {besides})) + " is possible"
