"""What every page of the portal works with: settings, ledger, links, templates, access control, live streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from config.portal import PatientField, PortalSettings
from config.settings import Settings
from ledger.store import Ledger
from outputs.links import Links
from portal.access.principal import Principal
from portal.serving.streams import StreamBudget
from portal.templating import Templates

if TYPE_CHECKING:
    from portal.access.control import AccessControl


@dataclass(frozen=True)
class Site:
    """The parts that pages share.

    Attributes
    ----------
    settings, portal
        All settings, and the section `portal`.
    ledger
        Also holds the clock.
    links
        Signed links of mails.
    access
        Who makes a request; audit lines of views.
    templates
        Renders pages.
    streams
        Budget of live streams.
    monotonic
        Seconds of a clock that never goes back, for rate limits.
    """

    settings: Settings
    portal: PortalSettings
    ledger: Ledger
    links: Links
    access: AccessControl
    templates: Templates
    streams: StreamBudget
    monotonic: Callable[[], float] = field(default=time.monotonic)

    def patient_fields(self, principal: Principal) -> tuple[PatientField, ...]:
        """The patient data that this person may see; empty for none."""
        return self.portal.patient_fields if principal.sees_patient_fields(self.portal.patient_roles) else ()

    def viewer_address(self, study_uid: str, accession: str = "") -> str | None:
        """Address of a study in the PACS's viewer; None where the settings name none, or the accession that it needs is unknown."""
        template = self.portal.viewer_url
        if template is None or ("{accession}" in template and not accession):
            return None
        return template.replace("{study_uid}", quote(study_uid, safe="")).replace("{accession}", quote(accession, safe=""))

    def record_view(self, principal: Principal, page: str, case_id: str | None, fields: Sequence[str]) -> None:
        """Write the audit line of a page that shows patient data, before it is sent. `fields` are names, not values."""
        self.ledger.note(
            "portal.patient_viewed", case_id, by=principal.login, method=str(principal.method), page=page, fields=sorted(fields)
        )
