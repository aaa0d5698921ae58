"""Real servers and the programs, started once per module on free ports; synthetic series, made once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corewatch.findings import Side
from phantom.dicom_series import Patient, SeriesTruth, write_series
from phantom.head import HeadSpec, PhantomHead, make_head
from tests.support.mailbox import Mailbox
from tests.support.net import free_port
from tests.support.orthanc import Orthanc
from tests.support.programs import Corewatch
from tests.support.spoils import SPECIAL

STROKE_TEAM = "stroke-team@hospital.example"
OPERATORS = "pacs-admins@hospital.example"
ONCALL = "neurology-on-call@hospital.example"


@dataclass(frozen=True, slots=True)
class Series:
    """A synthetic CTA series on disk, and what is true of it."""

    folder: Path
    truth: SeriesTruth
    patient_id: str
    side: Side
    core_ml: float


@pytest.fixture(scope="session")
def stroke_head() -> PhantomHead:
    """A head with a large core on the left."""
    return make_head(HeadSpec(seed=11, core_ml=90.0, side=Side.LEFT))


@pytest.fixture(scope="session")
def new_series(tmp_path_factory: pytest.TempPathFactory, stroke_head: PhantomHead) -> Callable[..., Series]:
    """Writes a series of the stroke head; every call with another `salt` is another patient's."""

    def write(salt: str, **how: Any) -> Series:
        folder = tmp_path_factory.mktemp("series") / "dicom"
        patient = Patient(name=f"Phantom^{salt.title()}", patient_id=f"PHANTOM-{salt}")
        truth = write_series(stroke_head, folder, uid_salt=salt, patient=patient, **({"slices": 160, "matrix": 256} | how))
        return Series(folder, truth, patient.patient_id, Side.LEFT, stroke_head.core_ml)

    return write


@pytest.fixture(scope="session")
def stroke_series(new_series: Callable[..., Series]) -> Series:
    """The series that most tests send."""
    return new_series("first")


@pytest.fixture(scope="module")
def orthanc(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A PACS."""
    server = Orthanc(tool("Orthanc"), tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    """The hospital's mail server."""
    server = Mailbox()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def corewatch(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc, mailbox: Mailbox) -> Iterator[Corewatch]:
    """All programs, delivering to the PACS, the results folder and the mail server; alerts wait for hours to be escalated."""
    portal = free_port()
    running = Corewatch(
        tmp_path_factory.mktemp("corewatch"),
        {
            "series": {
                "grace_s": 0.5,
                "idle_s": 5,
                "rules": [{"name": "special", "text": SPECIAL, "model": "not-installed"}, {"name": "cta-head"}],
            },
            "deliver": {
                "pacs": [{"name": "orthanc", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom}],
                "folder": {"path": "./results"},
                "email": {
                    "host": "127.0.0.1",
                    "port": mailbox.port,
                    "security": "none",
                    "from": "corewatch@hospital.example",
                    "to": [STROKE_TEAM],
                    "operators": [OPERATORS],
                },
                "escalation": [{"after_min": 600, "to": [ONCALL]}, {"after_min": 700, "to": [ONCALL]}],
                "backoff_s": 1,
            },
            "portal": {"port": portal, "url": f"http://127.0.0.1:{portal}"},
        },
    )
    yield running
    assert running.stop() == 0, running.tail()
