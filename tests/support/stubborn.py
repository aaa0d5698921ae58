"""Senders that do not give up: what was not acknowledged is sent again, over a new association, until it is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

Image = tuple[str, bytes]
"""SOP Instance UID, and the bytes of a DICOM file."""


class StubbornSender(threading.Thread):
    """Sends `images` in turn, `per_association` over each association, until all are acknowledged or time is over.

    Attributes
    ----------
    acknowledged
        UIDs that were answered with 0x0000.
    associations
        How many it took.
    """

    def __init__(self, port: int, ae_title: str, images: Sequence[Image], *, per_association: int, seconds: float) -> None:
        super().__init__(name=f"sender-{ae_title}", daemon=True)
        self._port, self._images, self._per_association = port, list(images), per_association
        self._deadline = time.monotonic() + seconds
        self._entity = AE(ae_title=ae_title)
        self._entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = 10
        self._entity.connection_timeout = 2
        self.acknowledged: set[str] = set()
        self.associations = 0

    def run(self) -> None:
        while time.monotonic() < self._deadline and (left := [i for i in self._images if i[0] not in self.acknowledged]):
            self._send(left[: self._per_association])

    def _send(self, images: Sequence[Image]) -> None:
        handlers = [(evt.EVT_CONN_OPEN, _no_delay)]
        association: Any = self._entity.associate("127.0.0.1", self._port, ae_title="COREWATCH", evt_handlers=handlers)
        if not association.is_established:
            time.sleep(0.1)  # the listener is down: knock again a little later
            return
        self.associations += 1
        try:
            for uid, data in images:
                status = association.send_c_store(dcmread(BytesIO(data)))
                if "Status" not in status:
                    return
                if status.Status == 0:
                    self.acknowledged.add(uid)
            association.release()
        except (RuntimeError, ValueError, OSError, AttributeError):
            return  # pynetdicom's ways of saying that the association is gone
        finally:
            if association.is_alive():
                association.abort()


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
