"""The destinations of a worker, and of the connection tests of `corewatch doctor`."""

from __future__ import annotations

from dataclasses import replace

from config.settings import Settings
from foundation.keys import own_key
from outputs.destinations import Destination, DestinationContext, build_destinations
from outputs.links import Links
from outputs.mail.receipts import MailReceipts


def destinations_of(settings: Settings, receipts: MailReceipts | None = None) -> dict[str, Destination]:
    """All destinations by name; see `outputs.destinations.build_destinations`.

    Without `receipts` they serve connection tests only, and no key of this installation is made or read.
    """
    deliver, portal = settings.deliver, settings.portal
    context = DestinationContext(listener_ae_title=settings.listener.ae_title)
    if receipts is not None and deliver.email is not None:
        context = replace(
            context,
            receipts=receipts,
            thread_key=own_key(settings.data_dir, "mail threads"),
            link=None if portal is None or portal.url is None else Links(portal.link_key(settings.data_dir), portal.url).to,
        )
    return build_destinations(deliver, context)
