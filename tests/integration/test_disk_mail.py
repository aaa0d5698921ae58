"""Too little disk: the sender gets 0xA700, and the operators get one mail over real SMTP."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from config.loading import load_settings
from corewatch import RESEARCH_LABEL
from tests.integration.conftest import OPERATORS
from tests.support.listener import associate, ct_slice, running
from tests.support.mailbox import Mailbox
from tests.support.net import free_port, wait_for
from tests.support.programs import COMMAND

OUT_OF_RESOURCES = 0xA700
LOOKED_AGAIN_S = 60.0


def test_refused_images_reach_the_operators_in_one_mail(tmp_path: Path) -> None:
    mailbox = Mailbox()
    email = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "from": "a@b.example", "operators": [OPERATORS]}
    file = tmp_path / "corewatch.yaml"
    values = {
        "data_dir": str(tmp_path / "data"),
        "broker": {"url": f"redis://127.0.0.1:{free_port()}/0"},  # never asked: no case, no work
        "listener": {"reserve_gib": 1e6},
        "watch": {"folders": [{"path": str(tmp_path / "inbox")}]},
        "deliver": {"email": email},
    }
    file.write_text(yaml.safe_dump(values))
    settings = load_settings(file, {})
    log = tmp_path / "watch.log"
    with log.open("wb") as out:
        program = subprocess.Popen([COMMAND, "watch", "--config", str(file)], stdout=out, stderr=subprocess.STDOUT)
    try:
        with running(settings) as listener:
            association = associate(listener.port)
            assert association.send_c_store(ct_slice(1)).Status == OUT_OF_RESOURCES
            association.release()
        [mail] = wait_for("the operators' mail", lambda: mailbox.mails, LOOKED_AGAIN_S)
    finally:
        program.terminate()
        code = program.wait(LOOKED_AGAIN_S)
        mailbox.stop()
    assert code == 0, log.read_text()
    assert mailbox.recipients == [[OPERATORS]]
    assert mail["To"] == OPERATORS
    assert "disk is nearly full" in str(mail["Subject"])
    text = mail.get_content()
    assert "0xA700" in text
    assert "1000000.00 GiB are kept free (listener.reserve_gib)" in text
    assert RESEARCH_LABEL in text
    assert str(settings.data_dir) not in text
    assert log.read_text().count("disk_nearly_full") == 1
