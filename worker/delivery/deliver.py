"""From the case folder to one destination."""

from __future__ import annotations

from corewatch.errors import OperatorNeeded
from corewatch.states import DeliveryState
from outputs.case import ReportedCase
from outputs.destinations.base import Destination, NothingToDeliver


def deliver(case: ReportedCase, destination: Destination | None) -> tuple[DeliveryState, str]:
    """Send the result; sending it again sends the same objects.

    Returns
    -------
    `sent` or `skipped`, and a line for the record.

    Raises
    ------
    RetryLater
        The destination cannot take it now.
    OperatorNeeded
        The destination will not take it, or is no longer in the settings.
    """
    if destination is None:
        raise OperatorNeeded("this destination is no longer in the settings", "add it again or cancel the delivery")
    reason = destination.skip_reason(case)
    if reason is not None:
        return DeliveryState.SKIPPED, reason
    try:
        return DeliveryState.SENT, destination.deliver(case).detail
    except NothingToDeliver as why:
        return DeliveryState.SKIPPED, str(why)
