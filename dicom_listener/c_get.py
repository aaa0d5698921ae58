"""C-GET into the spool: a series that a PACS sends on our own association becomes an arrival, as at the listener."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from config.settings import Settings
from corewatch.arrival import ArrivalOutcome
from corewatch.clock import utc_now
from corewatch.dicom_uids import CT_SOP_CLASSES
from corewatch.units import MIB
from dicom_listener.contexts import DECODABLE
from dicom_listener.disk_guard import DiskGuard
from dicom_listener.part10 import StoreRequest
from dicom_listener.services import Sender
from dicom_listener.storage_scp import InstanceSink, SpoolTarget, StorageSession
from foundation.dicom_client.association import PeerAddress
from foundation.dicom_client.query import FoundSeries
from foundation.dicom_client.retrieve import MoveDestination, Progress, StorageRole, SubOperations, get_series
from foundation.durable import make_folders


def get_into_spool(peer: PeerAddress, series: FoundSeries, settings: Settings, progress: Progress) -> SubOperations:
    """Retrieve a series by C-GET. An instance is acknowledged when it is durable; raises as `retrieve.move_series`."""
    listener, received = settings.listener, settings.received_dir
    make_folders(received)
    target = SpoolTarget(received, DiskGuard(received, listener.reserve_gib), utc_now, listener.max_instance_mib * MIB)
    session = StorageSession(target, Sender(peer.called_ae, peer.host))

    def on_store(event: Any) -> Dataset:
        request = event.request
        sink = InstanceSink(
            session,
            StoreRequest(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), str(event.context.transfer_syntax)),
        )
        sink.write(request.DataSet.getbuffer())
        response = sink.finish()
        answer = Dataset()
        answer.Status = response.status
        if response.comment:
            answer.ErrorComment = response.comment
        return answer

    storage = StorageRole(sorted(CT_SOP_CLASSES), tuple(DECODABLE), on_store)
    outcome = ArrivalOutcome.ABORTED
    try:
        retrieved = get_series(peer, series, MoveDestination(listener.ae_title, listener.port), storage, progress)
        outcome = ArrivalOutcome.RELEASED
    finally:
        session.close(outcome)
    return retrieved
