"""Patient data on pages: read from the kept source header of a case, for roles and fields of the settings, each view audited."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from corewatch.casefolder import CaseFolder
from corewatch.errors import OperatorNeeded
from outputs.source_header import read_header
from portal.access.principal import Principal
from portal.site import Site

_KEYWORDS: Final = {
    "accession": ("AccessionNumber", "Accession number"),
    "patient_id": ("PatientID", "Patient ID"),
    "name": ("PatientName", "Name"),
    "birth_date": ("PatientBirthDate", "Birth date"),
}
"""Field of `portal.patient_fields` -> keyword in the header, and words."""

_KEPT: Final = 500
_AGAIN: Final = timedelta(hours=1)
"""A list that refreshes itself is a new view of a case after this long."""


class PatientFields:
    """Reads the fields, and writes the audit line before they are shown. Used by many threads."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._headers: OrderedDict[tuple[str, int], dict[str, str]] = OrderedDict()
        self._seen: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        self._lock = threading.Lock()

    def labels(self, principal: Principal) -> tuple[str, ...]:
        """Words of the fields that this person sees, in the order of the settings."""
        if not principal.sees_patient_fields(self._site.portal.patient_roles):
            return ()
        return tuple(_KEYWORDS[field][1] for field in self._site.portal.patient_fields)

    def of_case(self, principal: Principal, case_id: str, page: str) -> dict[str, str]:
        """Words -> value of one case. Every call is a view, and a line of the audit trail."""
        found = self._read(principal, case_id)
        if found:
            self._site.record_view(principal, page, case_id, sorted(self._site.portal.patient_fields))
        return found

    def of_list(self, principal: Principal, case_ids: Sequence[str], page: str) -> Mapping[str, dict[str, str]]:
        """The same for the cases of a list. A case that this person's list has shown within the hour is no new view."""
        found = {case_id: fields for case_id in case_ids if (fields := self._read(principal, case_id))}
        for case_id in self._new(principal.login, found):
            self._site.record_view(principal, page, case_id, sorted(self._site.portal.patient_fields))
        return found

    def _new(self, login: str, case_ids: Iterable[str]) -> list[str]:
        now = self._site.ledger.clock()
        with self._lock:
            for key in [key for key, at in self._seen.items() if not timedelta() <= now - at < _AGAIN]:
                del self._seen[key]
            new = [case_id for case_id in case_ids if (login, case_id) not in self._seen]
            self._seen.update({(login, case_id): now for case_id in new})
        return new

    def _read(self, principal: Principal, case_id: str) -> dict[str, str]:
        if not principal.sees_patient_fields(self._site.portal.patient_roles):
            return {}
        values = self._header(CaseFolder(self._site.settings.cases_dir / case_id).source_header)
        fields = self._site.portal.patient_fields
        return {_KEYWORDS[field][1]: values[field] for field in fields if values.get(field)}

    def _header(self, path: Path) -> dict[str, str]:
        try:
            key = (str(path), path.stat().st_mtime_ns)
        except OSError:
            return {}
        with self._lock:
            if key in self._headers:
                return self._headers[key]
        try:
            header = read_header(path)
        except OperatorNeeded:
            return {}
        values = {field: str(header.get(keyword) or "").strip() for field, (keyword, _) in _KEYWORDS.items()}
        with self._lock:
            self._headers[key] = values
            while len(self._headers) > _KEPT:
                self._headers.popitem(last=False)
        return values
