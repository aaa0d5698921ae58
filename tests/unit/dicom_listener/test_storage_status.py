from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dicom_listener.storage_status import ALL, SUCCESS, StorageStatus


def test_codes_are_unique() -> None:
    assert len({s.code for s in ALL}) == len(ALL)


@pytest.mark.parametrize("status", ALL, ids=lambda s: f"{s.code:04X}")
def test_every_answer_fits_the_standard_and_helps(status: StorageStatus) -> None:
    assert status.code in STORAGE_SERVICE_CLASS_STATUS
    assert len(status.comment) <= 64, "Error Comment is LO"
    assert status.advice.endswith(".")
    assert status.success == (status is SUCCESS)
    reply = status.response()
    assert (reply.status, reply.comment) == (status.code, status.comment)
