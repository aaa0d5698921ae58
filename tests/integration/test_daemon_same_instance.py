"""The same instance received again in another encoding is no conflict. Another instance under its UID is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

from corewatch.reasons import Reason
from corewatch.states import CaseState
from tests.support.site import Site, open_site
from tests.support.spool import head, send_all

S = CaseState


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


def rewritten(image: tuple[str, bytes], change: Callable[[Dataset], None], *, implicit: bool = True) -> tuple[str, bytes]:
    """The image as another system would write it, with a change."""
    uid, data = image
    dataset = dcmread(BytesIO(data))
    if implicit:
        dataset = Dataset({tag: dataset[tag] for tag in dataset.keys()})  # noqa: SIM118  iterating gives elements
        dataset.file_meta = dcmread(BytesIO(data)).file_meta
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.ImplementationVersionName = "SOMEPACS"
    change(dataset)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return uid, buffer.getvalue()


def nothing(_dataset: Dataset) -> None:
    return


def private_and_counts(dataset: Dataset) -> None:
    block = dataset.private_block(0x0009, "SOMEPACS", create=True)
    block.add_new(0x01, "LO", "archived")
    dataset.NumberOfSeriesRelatedInstances = 12
    dataset.InstitutionName = "Hospital"


@pytest.mark.parametrize("change", [nothing, private_and_counts])
@pytest.mark.parametrize("implicit", [True, False])
def test_the_same_instance_in_another_encoding_is_ignored(site: Site, change: Callable[[Dataset], None], implicit: bool) -> None:
    images = head()
    send_all(site.received, site.clock, images)
    site.step(2)
    case = site.only()
    other = [rewritten(image, change, implicit=implicit) for image in images]
    assert all(a[1] != b[1] for a, b in zip(images, other, strict=True)), "other bytes"
    send_all(site.received, site.clock, other, ae_title="ARCHIVE")
    site.step(0.2)
    site.step(25)
    assert site.only().case_id == case.case_id
    assert "series.conflicting_copy" not in site.events(case)
    assert "arrival.repeated" in site.events(case)
    assert len(site.ledger.cases.instance_paths(case)) == 12


def pixels(dataset: Dataset) -> None:
    dataset.PixelData = bytes([9]) * 32


def slope(dataset: Dataset) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, 0


def bits(dataset: Dataset) -> None:
    dataset.BitsStored, dataset.HighBit = 12, 11


def place(dataset: Dataset) -> None:
    dataset.ImagePositionPatient = [-100, -120, 900]


def patient(dataset: Dataset) -> None:
    dataset.PatientName = "Other^Name"


def study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = generate_uid()


def shorter(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:16]


def compressed(dataset: Dataset) -> None:
    dataset.compress(RLELossless, generate_instance_uid=False)


def deflated(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("change", [pixels, slope, bits, place, patient, study, shorter])
@pytest.mark.parametrize("implicit", [True, False])
def test_another_instance_is_a_conflict(site: Site, change: Callable[[Dataset], None], implicit: bool) -> None:
    _conflict(site, change, implicit=implicit)


@pytest.mark.parametrize("change", [compressed, deflated])
def test_instances_that_are_not_compared_count_as_a_conflict(site: Site, change: Callable[[Dataset], None]) -> None:
    """To say "the same" is only safe where it is known; a conflict is looked at by somebody."""
    _conflict(site, change, implicit=False)


def _conflict(site: Site, change: Callable[[Dataset], None], *, implicit: bool) -> None:
    images = head()
    send_all(site.received, site.clock, images)
    site.step(2)
    first = site.only()
    send_all(site.received, site.clock, [rewritten(image, change, implicit=implicit) for image in images])
    site.step(0.2)
    site.step(25)
    assert "series.conflicting_copy" in site.events(first)
    assert [c.reason for c in site.cases(S.NOT_ANALYSED)] == [Reason.CONFLICTING_COPY]
    contents = {(site.received / p).read_bytes() for p in site.ledger.cases.instance_paths(first)}
    assert contents == {data for _, data in images}, "the first ones count"


def test_two_senders_of_one_series_at_the_same_time(site: Site) -> None:
    """A scanner and an archive both send everything, interleaved, each in its own way and order."""
    images = head()
    scanner, archive = site.sender(ae_title="CT1"), site.sender(ae_title="ARCHIVE")
    again = [rewritten(image, private_and_counts) for image in reversed(images)]
    for one, other in zip(images, again, strict=True):
        scanner.send([one])
        archive.send([other])
        site.step(0.2)
        assert site.only().state is S.RECEIVING
    scanner.release()
    archive.release()
    site.step(0.2)
    site.step(1.2)
    case = site.only()
    assert case.state is S.QUEUED
    assert len(site.ledger.cases.instance_paths(case)) == 12
    assert "series.conflicting_copy" not in site.events(case)


def test_one_series_over_many_associations_among_others(site: Site) -> None:
    """Five series, each split over four parallel associations."""
    series = {str(n): head(str(n)) for n in range(20, 25)}
    senders = [site.sender(ae_title="CT1") for _ in range(4)]
    for position in range(12):
        for n, images in enumerate(series.values()):
            senders[(position + n) % 4].send([images[position]])
        site.step(0.3)
    for sender in senders:
        assert {c.state for c in site.cases()} == {S.RECEIVING}
        sender.release()
        site.step(0.1)
    site.step(1.2)
    assert [c.state for c in site.cases()] == [S.QUEUED] * 5
    assert {len(site.ledger.cases.instance_paths(c)) for c in site.cases()} == {12}


# a truncated instance -------------------------------------------------------------------------------------------------------------


def cut(image: tuple[str, bytes], left_out: int = 10) -> tuple[str, bytes]:
    return image[0], image[1][:-left_out]


def compressed(image: tuple[str, bytes]) -> tuple[str, bytes]:
    def change(dataset: Dataset) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)

    return rewritten(image, change, implicit=False)


def fails(site: Site) -> None:
    """The worker finds that it cannot be read."""
    case = site.only()
    assert site.ledger.cases.advance(case.case_id, S.QUEUED, S.NOT_ANALYSED, reason=Reason.UNREADABLE, detail="cut short")


@pytest.mark.parametrize("encode", [lambda image: image, compressed], ids=["plain", "compressed"])
def test_a_complete_instance_replaces_a_truncated_one(site: Site, encode: Callable[[tuple[str, bytes]], tuple[str, bytes]]) -> None:
    images = [encode(image) for image in head()]
    send_all(site.received, site.clock, [*images[:4], cut(images[4]), *images[5:]])
    site.step(2)
    fails(site)
    again = send_all(site.received, site.clock, images)
    site.step(0.2)
    site.step(21)  # it came in parts, over one association after another
    (healed,) = site.cases(S.QUEUED)
    assert healed.revision == 2
    files = {dcmread(site.received / p).SOPInstanceUID: site.received / p for p in site.ledger.cases.instance_paths(healed)}
    assert len(files) == len(images)
    assert files[images[4][0]].parent.name == again.arrival_id
    assert files[images[4][0]].read_bytes() == images[4][1]


def test_a_complete_and_a_truncated_instance_in_one_drop(site: Site) -> None:
    images = head()
    send_all(site.received, site.clock, [*images, cut(images[4])])
    site.step(2)
    files = [site.received / p for p in site.ledger.cases.instance_paths(site.only())]
    assert sorted(f.read_bytes() for f in files) == sorted(data for _, data in images)


@pytest.mark.parametrize(
    "other",
    [
        lambda image: cut(image, 4),
        lambda image: (image[0], image[1][:-20] + b"x" * 20),
        lambda image: rewritten(image, lambda ds: setattr(ds, "PatientName", "Other^Name"), implicit=False),
    ],
    ids=["truncated too", "other pixels", "another patient"],
)
def test_an_instance_that_completes_nothing_is_a_conflict(
    site: Site, other: Callable[[tuple[str, bytes]], tuple[str, bytes]]
) -> None:
    images = head()
    send_all(site.received, site.clock, [*images[:4], cut(images[4]), *images[5:]])
    site.step(2)
    fails(site)
    send_all(site.received, site.clock, [other(images[4])])
    site.step(0.2)
    site.step(2)
    assert site.cases(S.QUEUED, S.RECEIVING) == []
    assert any("conflicting" in event for event in site.events(next(c for c in site.cases() if c.series_uid is not None)))


def test_two_instances_of_one_uid_in_one_drop_are_a_conflict(site: Site) -> None:
    images = head()
    send_all(site.received, site.clock, [*images, (images[4][0], images[4][1][:-8] + b"otherpix")])
    site.step(2)
    (case,) = site.cases(S.QUEUED)
    assert "series.conflicting_copy" in site.events(case)
