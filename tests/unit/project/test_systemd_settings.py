"""The settings and folders that come with the systemd units fit what the units allow."""

from __future__ import annotations

import re
from pathlib import Path

from config import load_settings

UNITS = Path(__file__).resolve().parents[3] / "systemd"
HARDENING = (UNITS / "corewatch-.service.d" / "hardening.conf").read_text()
SETTINGS = load_settings(UNITS / "corewatch.yaml", {})
WRITTEN = [SETTINGS.data_dir, *(w.path for w in SETTINGS.watch.folders), *([f.path] if (f := SETTINGS.deliver.folder) else [])]


def test_the_units_may_write_where_the_settings_say() -> None:
    writable = [Path("/var/lib") / name for name in re.findall(r"^StateDirectory=(\S+)", HARDENING, re.MULTILINE)]
    writable += [Path(name) for name in re.findall(r"^ReadWritePaths=-?(\S+)", HARDENING, re.MULTILINE)]
    for folder in WRITTEN:
        assert any(folder.is_relative_to(place) for place in writable), folder


def test_the_folders_outside_the_state_directory_are_made_for_our_user() -> None:
    lines = [line.split() for line in (UNITS / "corewatch.tmpfiles.conf").read_text().splitlines() if line.startswith("d ")]
    made = {Path(path): (mode, user, group) for _, path, mode, user, group, _ in lines}
    for folder in WRITTEN[1:]:
        mode, user, group = made[folder]
        assert (user, group) == ("corewatch", "corewatch")
        assert int(mode, 8) & 0o007 == 0, "patients' data is nobody else's"


def test_a_pacs_may_send() -> None:
    assert SETTINGS.listener.peers
