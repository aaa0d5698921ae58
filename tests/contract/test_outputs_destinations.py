"""One suite over all destinations: what each must do, whatever it is."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from config.delivery import DeliverSettings, PacsSettings
from corewatch.cautions import Caution, CautionCode
from corewatch.errors import OperatorNeeded, RetryLater
from corewatch.findings import Side
from outputs.case import ReportedCase
from outputs.destinations import Destination, DestinationContext, build_destinations
from outputs.destinations.folder import COMPLETE
from outputs.destinations.pacs import PacsDestination
from outputs.dicom.secondary_capture import Page
from tests.support.dicomweb import dicomweb_server
from tests.support.results import PATIENT_ID, PATIENT_NAME, clock, failed, make_case, not_analysed, with_cautions, write_pages
from tests.support.smtp import smtp_server
from tests.support.storage import STORED, storage_scp

TAKEN = (*STORED, SegmentationStorage, Comprehensive3DSRStorage)
NAMES = ("email", "operators", "archive", "web", "folder")
"""In the order in which a result is brought to them: who must act hears first."""


@dataclass
class Site:
    """A hospital: every destination, and what each has got."""

    destinations: dict[str, Destination]
    holds: dict[str, Callable[[], dict[str, str]]]


def archive(**changes: Any) -> PacsSettings:
    return PacsSettings.model_validate({"name": "archive", "ae_title": "PACS", "host": "h", "port": 104, **changes})


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@contextmanager
def running_site(folder: Path, when: Any = "always", status: int = 0x0000, refusal: str | None = None) -> Iterator[Site]:
    with (
        storage_scp(lambda number: status, classes=TAKEN) as pacs,
        smtp_server() as mailbox,
        dicomweb_server(lambda number: status) as web,
    ):
        mailbox.data_reply = refusal
        email = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "timeout_s": 5.0, "when": when}
        deliver = DeliverSettings.model_validate(
            {
                "pacs": [{"name": "archive", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, "timeout_s": 5.0}],
                "dicomweb": [{"name": "web", "url": web.url, "timeout_s": 5.0}],
                "folder": {"path": folder / "results"},
                "email": {**email, "from": "corewatch@x.example", "to": ["stroke@x.example"], "operators": ["it@x.example"]},
            }
        )

        def mails() -> dict[str, str]:
            return {f"{number}": str(message["Message-ID"]) for number, (_, message) in enumerate(mailbox.mails)}

        yield Site(
            build_destinations(deliver, DestinationContext(clock=clock)),
            {
                "archive": lambda: {uid: digest(data) for uid, data in pacs.received.items()},
                "web": lambda: {uid: digest(data) for uid, data in web.received.items()},
                "folder": lambda: files(folder / "results"),
                "email": mails,
                "operators": mails,
            },
        )


def rendered_case(folder: Path, name: str, **how: Any) -> ReportedCase:
    """A case that applies to `name`, with everything in its folder."""
    case = make_case(folder / "case", **how)
    write_pages(case, [Page(np.zeros((16, 16, 3), np.uint8), role) for role in ("summary", "overlay-1")])
    case.folder.summary.write_bytes(b"\x89PNG-page")
    case.folder.result.write_text(case.result.dumps())
    for path in (case.folder.aligned, case.folder.core_map):
        path.write_bytes(b"nifti")
    return not_analysed(case) if name == "operators" else case


def test_the_registry_has_them_all(tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        assert tuple(site.destinations) == ("email", "operators", "refusal", "archive", "web", "folder")
        assert all(destination.name == name for name, destination in site.destinations.items())


def test_names_must_differ() -> None:
    twice = DeliverSettings.model_construct(pacs=(archive(), archive(ae_title="B")), folder=None)
    with pytest.raises(ValueError, match="same name"):
        build_destinations(twice)
    with pytest.raises(ValidationError, match="must be unique"):
        DeliverSettings(pacs=twice.pacs)
    assert build_destinations(DeliverSettings(folder=None)) == {}


@pytest.mark.parametrize("name", NAMES)
def test_delivers_and_says_when(name: str, tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        case = rendered_case(tmp_path, name)
        destination = site.destinations[name]
        assert destination.skip_reason(case) is None
        destination.check()
        assert site.holds[name]() == {}
        delivered = destination.deliver(case)
        assert site.holds[name]()
        assert delivered.at == clock()
        assert delivered.detail
        assert PATIENT_ID not in delivered.detail


@pytest.mark.parametrize("name", NAMES)
def test_delivering_again_changes_nothing(name: str, tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        case = rendered_case(tmp_path, name)
        site.destinations[name].deliver(case)
        first = site.holds[name]()
        for _ in range(2):
            site.destinations[name].deliver(case)
        assert site.holds[name]() == first


@pytest.mark.parametrize("name", NAMES)
def test_an_unreachable_place_is_retried(name: str, tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        destination = site.destinations[name]
    if name == "folder":
        (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(RetryLater) as caught:
        destination.deliver(rendered_case(tmp_path, name))
    assert "check" in str(caught.value)
    with pytest.raises(RetryLater) as found:
        destination.check()
    assert "check" in found.value.remedy


@pytest.mark.parametrize("name", ["archive", "web", "email", "operators"])
@pytest.mark.parametrize(
    ("status", "refusal", "error"), [(0xA700, "452 full", RetryLater), (0xA900, "554 refused", OperatorNeeded)]
)
def test_refusals_are_sorted(name: str, status: int, refusal: str, error: type[Exception], tmp_path: Path) -> None:
    with running_site(tmp_path, status=status, refusal=refusal) as site, pytest.raises(error):
        site.destinations[name].deliver(rendered_case(tmp_path, name))


CASES: dict[str, Callable[[Path], ReportedCase]] = {
    "alert": make_case,
    "no alert": lambda folder: make_case(folder, core_ml=3.0, alert=False, side=Side.NONE),
    "dense region": lambda folder: with_cautions(
        make_case(folder, core_ml=3.0, alert=False, side=Side.NONE), Caution(CautionCode.DENSE_REGION, "14 mL")
    ),
    "no DICOM": lambda folder: make_case(folder, dicom=False),
    "not analysed": lambda folder: not_analysed(make_case(folder)),
    "failed": lambda folder: failed(make_case(folder)),
}


@pytest.mark.parametrize(
    ("kind", "when", "applying"),
    [
        ("alert", "always", {"archive", "web", "folder", "email"}),
        ("alert", "positive", {"archive", "web", "folder", "email"}),
        ("alert", "never", {"archive", "web", "folder"}),
        ("no alert", "always", {"archive", "web", "folder", "email"}),
        ("no alert", "positive", {"archive", "web", "folder"}),
        ("dense region", "positive", {"archive", "web", "folder", "email"}),
        ("dense region", "never", {"archive", "web", "folder"}),
        ("no DICOM", "always", {"folder", "email"}),
        ("not analysed", "always", {"folder", "operators"}),
        ("not analysed", "never", {"folder", "operators"}),
        ("failed", "positive", {"archive", "web", "folder", "operators", "email"}),  # an alert
    ],
)
def test_what_applies_to_what(kind: str, when: Any, applying: set[str], tmp_path: Path) -> None:
    built = build_destinations(
        DeliverSettings.model_validate(
            {
                "pacs": [archive()],
                "dicomweb": [{"name": "web", "url": "http://h"}],
                "folder": {"path": tmp_path / "results"},
                "email": {"host": "127.0.0.1", "from": "a@x.example", "to": ["b@x.example"], "when": when},
            }
        )
    )
    case = CASES[kind](tmp_path / "case")
    assert {name for name, destination in built.items() if destination.skip_reason(case) is None} == applying


def test_mail_without_recipients_is_skipped_unless_the_case_brings_some(tmp_path: Path) -> None:
    built = build_destinations(DeliverSettings.model_validate({"email": {"host": "h", "from": "a@x.example"}}))
    assert "no recipients" in str(built["email"].skip_reason(make_case(tmp_path)))
    assert built["email"].skip_reason(make_case(tmp_path, recipients=("b@x.example",))) is None
    assert "no recipients" in str(built["operators"].skip_reason(not_analysed(make_case(tmp_path))))


def test_folder_holds_the_results_and_no_header(tmp_path: Path) -> None:
    case = rendered_case(tmp_path, "folder")
    case.folder.finding.write_text("{}")
    with running_site(tmp_path) as site:
        site.destinations["folder"].deliver(case)
    results = tmp_path / "results"
    assert set(files(results / case.case_id)) == {
        "result.json",
        "summary.png",
        "aligned.nii.gz",
        "core_map.nii.gz",
        "dicom/sc-001.dcm",
        "dicom/sc-002.dcm",
        COMPLETE,
    }
    assert [path.name for path in results.iterdir()] == [case.case_id]
    outside_dicom = [path for path in (results / case.case_id).iterdir() if path.is_file()]
    assert not any(PATIENT_ID.encode() in path.read_bytes() or PATIENT_NAME.encode() in path.read_bytes() for path in outside_dicom)


def test_folder_leaves_identical_files_alone_and_replaces_changed_ones(tmp_path: Path) -> None:
    case = rendered_case(tmp_path, "folder")
    page = tmp_path / "results" / case.case_id / "summary.png"
    with running_site(tmp_path) as site:
        folder = site.destinations["folder"]
        folder.deliver(case)
        before = page.stat()
        folder.deliver(case)
        assert (page.stat().st_ino, page.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        case.folder.summary.write_bytes(b"\x89PNG-other")
        folder.deliver(case)
    assert page.read_bytes() == b"\x89PNG-other"
    assert [path.name for path in (tmp_path / "results").iterdir()] == [case.case_id]


def test_folder_that_died_midway_is_completed(tmp_path: Path) -> None:
    case = rendered_case(tmp_path, "folder")
    target = tmp_path / "results" / case.case_id
    with running_site(tmp_path) as site:
        site.destinations["folder"].deliver(case)
        whole = files(target)
        (target / COMPLETE).unlink()
        (target / "summary.png").write_bytes(b"half")
        site.destinations["folder"].deliver(case)
    assert files(target) == whole


def test_folder_with_nothing_to_deliver_waits(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", dicom=False)
    with running_site(tmp_path) as site, pytest.raises(RetryLater, match="nothing yet"):
        site.destinations["folder"].deliver(case)


def test_pacs_without_objects_is_for_the_operator(tmp_path: Path) -> None:
    with running_site(tmp_path) as site, pytest.raises(OperatorNeeded, match="no DICOM objects"):
        site.destinations["archive"].deliver(make_case(tmp_path / "case"))


def test_pacs_lasting_refusal_outweighs_a_passing_one(tmp_path: Path) -> None:
    case = rendered_case(tmp_path, "archive")
    with storage_scp({1: 0xA700, 2: 0xA900}.__getitem__) as pacs:
        to = PacsDestination(archive(host="127.0.0.1", port=pacs.port), "COREWATCH", DestinationContext(clock=clock))
        with pytest.raises(OperatorNeeded, match="2 of 2 objects"):
            to.deliver(case)


def test_pacs_takes_the_page_of_a_case_not_analysed_if_asked(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path))
    assert PacsDestination(archive(), "C").skip_reason(case) is not None
    assert PacsDestination(archive(not_analysed=True), "C").skip_reason(case) is None


def test_pacs_gets_nothing_of_a_case_that_failed_before_it_had_a_finding(tmp_path: Path) -> None:
    case = failed(make_case(tmp_path))
    without = dataclasses.replace(case, result=dataclasses.replace(case.result, finding=None))
    assert PacsDestination(archive(not_analysed=True), "C").skip_reason(without) is not None


def test_pacs_gets_the_kinds_of_objects_it_is_for(tmp_path: Path) -> None:
    case = rendered_case(tmp_path, "archive")
    (case.folder.dicom / "sr-001.dcm").write_bytes((case.folder.dicom / "sc-001.dcm").read_bytes())
    with storage_scp(lambda number: 0x0000) as pacs:

        def to(*kinds: str) -> PacsDestination:
            return PacsDestination(
                archive(host="127.0.0.1", port=pacs.port, objects=kinds), "COREWATCH", DestinationContext(clock=clock)
            )

        assert to("sc").deliver(case).detail.startswith("2 objects")
        assert to("sc", "sr").deliver(case).detail.startswith("3 objects")
        with pytest.raises(OperatorNeeded, match="of the kinds asked for"):
            to("seg").deliver(case)
