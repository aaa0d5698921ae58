"""Programs are shot in the middle of their work: the case ends delivered all the same, once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from corewatch.states import STAGE_OF, CaseState, Stage
from tests.integration.conftest import Series
from tests.support.mailbox import Mailbox
from tests.support.net import wait_for
from tests.support.orthanc import Orthanc
from tests.support.programs import Corewatch

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(600)]


def send(program: str, series: Series, port: int) -> None:
    command = [program, "-aec", "COREWATCH", "+sd", "127.0.0.1", str(port), str(series.folder)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)


def check_once(corewatch: Corewatch, orthanc: Orthanc, mailbox: Mailbox, series: Series) -> str:
    """Delivered, and nothing twice: one case, one mail, one series of each kind of result in the PACS."""
    [case] = corewatch.ended(1, series_uid=series.truth.series_uid, seconds=300)
    assert case.state is CaseState.DELIVERED, (case.detail, corewatch.tail())
    assert len(mailbox.about(case.case_id)) == 1
    kinds = [one["MainDicomTags"]["Modality"] for one in orthanc.find("Series", StudyInstanceUID=series.truth.study_uid)]
    assert sorted(kinds) == ["CT", "SEG", "SR"]
    return case.case_id


@pytest.mark.parametrize("state", [CaseState.QUEUED, CaseState.PREPARED, CaseState.DETECTED])
def test_a_worker_is_shot(
    state: CaseState,
    corewatch: Corewatch,
    orthanc: Orthanc,
    mailbox: Mailbox,
    new_series: Callable[..., Series],
    tool: Callable[[str], str],
) -> None:
    series = new_series(f"shot while {state}")
    send(tool("dcmsend"), series, corewatch.port)

    def holder() -> str | None:
        cases = [c for c in corewatch.cases() if c.series_uid == series.truth.series_uid]
        return cases[0].holder if cases and cases[0].state is state else None

    held = wait_for(f"a worker to hold the {state} case", holder, 120, every=0.005)
    os.kill(int(held.split("/")[1]), signal.SIGKILL)
    case_id = check_once(corewatch, orthanc, mailbox, series)
    assert corewatch.ledger is not None
    begun = Counter(h.event for h in corewatch.ledger.cases.history(case_id) if re.fullmatch(r"stage\.\w+\.begun", h.event))
    once = {f"stage.{stage}.begun": 1 for stage in (Stage.PREPARE, Stage.DETECT, Stage.RENDER)}
    assert begun == {**once, f"stage.{STAGE_OF[state]}.begun": 2}, "the shot stage is begun once more, the others are not"


@pytest.mark.parametrize("program", ["watch", "work"])
def test_a_program_is_shot_while_images_arrive(
    program: str,
    corewatch: Corewatch,
    orthanc: Orthanc,
    mailbox: Mailbox,
    new_series: Callable[..., Series],
    tool: Callable[[str], str],
) -> None:
    series = new_series(f"{program} shot")
    sender = threading.Thread(target=send, args=(tool("dcmsend"), series, corewatch.port))
    sender.start()
    wait_for(
        "the first instances",
        lambda: [c for c in corewatch.cases() if c.series_uid == series.truth.series_uid],
        60,
        every=0.01,
    )
    family = psutil.Process(corewatch.process.pid).children(recursive=True)
    victims = [p for p in family if program in p.cmdline() and "cli" in " ".join(p.cmdline())]
    assert victims
    for victim in victims:
        victim.send_signal(signal.SIGKILL)
    sender.join()
    check_once(corewatch, orthanc, mailbox, series)
