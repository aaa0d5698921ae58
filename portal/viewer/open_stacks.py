"""The stacks of the cases that people look at, kept in memory while they scroll."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from config.settings import Settings
from corewatch.casefolder import CaseFolder
from ledger.cases import Case
from ledger.store import Ledger
from portal.viewer.stack import SliceStack, open_stack

_KEPT: Final = 8
"""Cases; a map and an aligned head have 3.5 MB each."""

_CHANGING: Final = ("core_map", "aligned", "prepared")
"""Files of a case folder from which a stack is made."""


@dataclass(frozen=True, slots=True)
class OpenStack:
    """A stack with the area of the core in mm2 in each slice."""

    stack: SliceStack
    areas: tuple[float, ...]

    @property
    def most_core(self) -> int:
        """The slice with most core; the middle one where there is none."""
        largest = max(self.areas, default=0.0)
        return self.areas.index(largest) if largest > 0 else len(self.areas) // 2


class OpenStacks:
    """Opens stacks, and keeps the last ones. Used by many threads."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._kept: OrderedDict[tuple[object, ...], OpenStack] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, case: Case) -> OpenStack | None:
        """The case's stack; None where no image of it is left, or none can be shown."""
        folder = CaseFolder(self._settings.cases_dir / case.case_id)
        key = (case.case_id, case.last_stored_at, case.files_removed, *(_version(folder, name) for name in _CHANGING))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        received = self._settings.received_dir
        instances = [(header, received / path) for header, path in self._ledger.cases.instance_files(case)]
        stack = open_stack(folder, instances, show_map=shows_map(case))
        if stack is None:
            return None
        found = OpenStack(stack, tuple(stack.core_areas()))
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found


def shows_map(case: Case) -> bool:
    """Whether the core map is drawn, as on the pages (`outputs.pages.axial_slices.map_is_shown`)."""
    return bool(case.alert) or case.side in {"left", "right"}


def _version(folder: CaseFolder, name: str) -> int:
    try:
        return int(getattr(folder, name).stat().st_mtime_ns)
    except OSError:
        return 0
