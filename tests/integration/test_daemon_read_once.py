"""An image is read once, its header alone: the hash of its contents is in its name. What may have been through a crash is read, and
what cannot be read just now, or is too much for one step, is waited for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from conversion.headers import read_instance
from corewatch.instance import Instance
from corewatch.states import CaseState
from daemon.intake.assembler import Assembler
from daemon.intake.spool_indexer import READ_ATTEMPTS
from ledger.spool import StoredFile
from ledger.tables import instances
from tests.support.site import Site, open_site
from tests.support.spool import head, image, send_all

SIZE = 2**20


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        opened.step()  # the daemon runs before anything is received
        yield opened


def test_files_stored_while_the_daemon_runs_are_not_read_for_their_hash(site: Site) -> None:
    images = [image("7", n, Rows=1024, Columns=512, PixelData=bytes([n]) * SIZE) for n in range(1, 13)]
    stored = site.sender().send(images)
    before = bytes_read()
    site.step(0.2)
    assert bytes_read() - before < len(images) * SIZE / 4
    assert hashes(site) == {s.sha256 for s in stored} == {hashlib.sha256(data).hexdigest() for _, data in images}


def test_files_stored_before_the_daemon_started_are_read(site: Site) -> None:
    stored = site.sender().send(head())
    spoil(stored[3])
    site.restart()
    site.step(0.2)
    (bad,) = site.cases(CaseState.NOT_ANALYSED)
    assert "not those that were received" in bad.detail
    assert hashes(site) == {s.sha256 for s in stored if s is not stored[3]}


def test_a_file_of_an_earlier_release_with_a_short_hash_in_its_name_is_read(site: Site) -> None:
    stored = site.sender().send(head())
    spoil(stored[3])
    for one in stored:
        uid_hash, _, content_hash = one.path.stem.partition("-")
        one.path.rename(one.path.with_name(f"{uid_hash}-{content_hash[:20]}.dcm"))
    site.step(0.2)
    assert len(site.cases(CaseState.NOT_ANALYSED)) == 1
    assert hashes(site) == {s.sha256 for s in stored if s is not stored[3]}


def test_the_series_waits_for_a_file_that_the_disk_fails_to_read(site: Site) -> None:
    broken = {"yes"}

    def read(path: Path) -> Instance:
        header = read_instance(path)
        if broken and header.instance_number == 12:
            raise OSError(5, "Input/output error")
        return header

    site.assembler = Assembler(site.ledger, site.settings, read)
    sender = site.sender()
    sender.send(head())
    sender.release()
    for _ in range(READ_ATTEMPTS - 5):
        site.step(0.2)
        assert site.only().state is CaseState.RECEIVING, "though the others form a stack without a gap"
    broken.clear()
    site.step(0.2)
    site.step(1)
    assert site.only().state is CaseState.QUEUED
    assert len(site.ledger.cases.instance_paths(site.only())) == 12


def test_many_instances_of_one_sender_do_not_delay_another(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.intake.spool_indexer.MAX_FILES_PER_STEP", 12)
    bulk = send_all(site.received, site.clock, head("8", 100))
    urgent = send_all(site.received, site.clock, head("7"), ae_title="OTHER")
    site.step(0.2)
    assert len(site.ledger.intake.known_paths(bulk.arrival_id)) == 12
    site.step(1.2)
    assert [c.series_uid for c in site.cases(CaseState.QUEUED)] == ["1.2.7"], "though it came last"
    for _ in range(20):
        site.step(0.2)
    site.step(1.2)
    assert urgent.arrival_id in site.ledger.intake.finished_arrivals()
    (case,) = [c for c in site.cases(CaseState.QUEUED) if c.series_uid == "1.2.8"]
    assert (len(site.ledger.cases.instance_paths(case)), case.revision) == (100, 1)


def test_a_series_waits_for_its_files_that_are_not_indexed_yet(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.intake.spool_indexer.MAX_FILES_PER_STEP", 12)
    images = head("7", 24)
    rest = images[-4:]
    others = [one for one in head("8", 600) if file_name(one) < min(map(file_name, rest))]
    assert len(others) > 36, "three steps without a slice of the first series"
    send_all(site.received, site.clock, images[:-4])
    second = send_all(site.received, site.clock, [*others, *rest])
    for _ in range(60):
        site.step(0.5)
        taken_in = second.arrival_id in site.ledger.intake.finished_arrivals()
        assert taken_in or all(c.series_uid != "1.2.7" for c in site.cases(CaseState.QUEUED))
    (case,) = [c for c in site.cases(CaseState.QUEUED) if c.series_uid == "1.2.7"]
    assert (len(site.ledger.cases.instance_paths(case)), case.revision) == (24, 1)


def file_name(image: tuple[str, bytes]) -> str:
    """Key of the order in which files are indexed."""
    return hashlib.sha256(image[0].encode()).hexdigest()


def spoil(stored: StoredFile) -> None:
    """Other bytes than were received, and still a DICOM file."""
    stored.path.write_bytes(stored.path.read_bytes()[:-2] + b"xx")


def bytes_read() -> int:
    """By this process since it began, from wherever."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


def hashes(site: Site) -> set[str]:
    with site.ledger._database.reading() as connection:
        return set(connection.scalars(select(instances.c.sha256)))
