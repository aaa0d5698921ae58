"""Each refused image is logged with its reason; the operators get one mail per sender and hour."""

from __future__ import annotations

import queue
from pathlib import Path

import dicom_listener.refusals
from dicom_listener.refusals import MOST_NOTICES, NOTICE_INTERVAL_S, RefusalReports
from dicom_listener.services import Sender
from dicom_listener.storage_status import NO_UID, NOT_DICOM, OUT_OF_RESOURCES
from tests.support.listener import associate, captured_logs, ct_slice, listener_settings, running

PACS = Sender("PACS", "10.1.2.3")


class Reports:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.mails: queue.Queue[str] = queue.Queue()
        self.reports = RefusalReports(self._mail, lambda: self.now_s)

    def _mail(self, problem: str) -> bool:
        self.mails.put(problem)
        return True

    def sent(self, count: int) -> list[str]:
        found = [self.mails.get(timeout=10) for _ in range(count)]
        assert self.mails.empty()
        return found


def test_one_mail_per_sender_and_hour() -> None:
    site = Reports()
    with captured_logs(dicom_listener.refusals) as logs:
        for _ in range(320):
            site.reports.report(PACS, NO_UID)
        site.reports.report(PACS, NOT_DICOM)
        site.reports.report(Sender("CT1", "10.1.2.4"), NOT_DICOM)
        assert len(site.sent(2)) == 2
        site.now_s = NOTICE_INTERVAL_S + 1
        site.reports.report(PACS, NO_UID)
        (mail,) = site.sent(1)
    assert "PACS at 10.1.2.3" in mail
    assert "0xC000" in mail
    assert NO_UID.advice in mail
    assert [(e["status"], e["not_logged_before"]) for e in logs] == [("0xC000", 0), ("0xC210", 0), ("0xC210", 0), ("0xC000", 319)]


def test_a_full_disk_is_reported_by_its_own_watch() -> None:
    site = Reports()
    with captured_logs(dicom_listener.refusals) as logs:
        site.reports.report(PACS, OUT_OF_RESOURCES)
    assert (logs, site.sent(0)) == ([], [])


def test_many_senders_do_not_flood_the_operators() -> None:
    site = Reports()
    for number in range(100):
        site.reports.report(Sender(f"CT{number}", "10.1.2.4"), NO_UID)
    assert len(site.sent(MOST_NOTICES)) == MOST_NOTICES


def test_the_listener_takes_odd_uids(tmp_path: Path) -> None:
    odd = ct_slice(1)
    odd.SOPInstanceUID = odd.file_meta.MediaStorageSOPInstanceUID = "1.2.840.letters-1"
    with running(listener_settings(tmp_path)) as listener, captured_logs(dicom_listener.refusals) as logs:
        association = associate(listener.port)
        assert association.send_c_store(odd).Status == 0
        association.release()
    assert [e for e in logs if e["event"] == "instance_refused"] == []
