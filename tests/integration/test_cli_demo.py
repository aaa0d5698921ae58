"""`corewatch demo`: the whole product, from C-STORE to the PACS, the folder and the mail, as a program without a terminal."""

from __future__ import annotations

import json
import signal
import subprocess
from email import message_from_bytes
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
from pydicom import dcmread

from cli.children import own_command, own_environment
from corewatch import RESEARCH_LABEL
from corewatch.geometry import NETWORK_SHAPE
from tests.support.net import wait_for

pytestmark = pytest.mark.slow


def demo(*arguments: str) -> list[str]:
    return own_command(None, ["demo", *arguments])


@pytest.mark.timeout(900)
def test_a_synthetic_stroke_arrives_everywhere(tmp_path: Path) -> None:
    command = demo("--dir", str(tmp_path / "demo"), "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=840, env=own_environment({}), check=False)
    assert done.returncode == 0, done.stderr
    assert RESEARCH_LABEL in done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["state"], outcome["side"], outcome["alert"], outcome["problems"]) == ("delivered", "left", True, [])
    assert outcome["truth"] == {"core_ml": pytest.approx(60, abs=0.5), "side": "left"}
    for name in ("aligned", "core_map"):
        image = nib.load(outcome[name])
        assert image.shape == NETWORK_SHAPE
        assert np.ptp(np.asanyarray(image.dataobj)) > 0
    objects = [dcmread(path, stop_before_pixels=True) for path in outcome["pacs_objects"]]
    assert len({o.SOPInstanceUID for o in objects}) == len(objects)
    assert {o.PatientID for o in objects} == {"PHANTOM0001"}
    (mail,) = (message_from_bytes(Path(path).read_bytes()) for path in outcome["mails"])
    assert outcome["case_id"] in str(mail["Subject"])
    assert not [line for line in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(line.info["cmdline"] or [])]


@pytest.mark.timeout(300)
def test_an_interrupted_demonstration_leaves_no_program_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        demo("--dir", str(tmp_path / "demo")), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=own_environment({})
    )
    try:
        wait_for("the programs", lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 7, 120)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _out, errors = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 1, errors
    _gone, alive = psutil.wait_procs(family, 5)
    assert not alive


def test_an_unknown_model_is_a_usage_error_before_anything_starts(tmp_path: Path) -> None:
    command = demo("--dir", str(tmp_path / "demo"), "--model", "never-trained")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=own_environment({}), check=False)
    assert done.returncode == 2
    assert "there is no model 'never-trained'" in done.stderr
    assert not (tmp_path / "demo").exists()
