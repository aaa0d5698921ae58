"""Exit codes of `corewatch`: scripts and service managers go by them."""

from __future__ import annotations

from typing import Final

from corewatch.states import CaseState

DONE: Final = 0
USAGE: Final = 2
"""The command line or the settings cannot work (click's own code for usage errors too)."""
NOT_ANALYSED: Final = 3
FAILED: Final = 4


def code_of(state: CaseState) -> int:
    """Exit code of a command that ran one case to `state`."""
    if state is CaseState.NOT_ANALYSED:
        return NOT_ANALYSED
    return FAILED if state is CaseState.FAILED else DONE
