"""Folders that would swallow each other are refused before anything is moved."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from config import load_settings
from corewatch.errors import ConfigurationError


def load(folder: Path, *watched: str, data: str = "data", results: str | None = "results") -> None:
    file = folder / "corewatch.yaml"
    folders = {"watch": {"folders": [{"path": path} for path in watched]}, "deliver": {"folder": results and {"path": results}}}
    file.write_text(yaml.safe_dump({"data_dir": data, **folders}))
    load_settings(file, {})


@pytest.mark.parametrize(
    "watched", [("inbox",), ("inbox", "inbox2"), ("a/inbox", "a/urgent"), ("data/inbox",), ("results/inbox",), ()]
)
def test_folders_beside_each_other(tmp_path: Path, watched: tuple[str, ...]) -> None:
    load(tmp_path, *watched)
    load(tmp_path, *watched, results=None)


@pytest.mark.parametrize(
    ("watched", "folders", "words"),
    [
        (("inbox", "./inbox/../inbox"), {}, "named twice"),
        (("inbox/urgent", "inbox"), {}, "urgent lies in"),
        (("inbox", "inbox/processed/again"), {}, "again lies in"),
        (("inbox", "link"), {}, "named twice"),
        ((".",), {}, "data_dir"),
        (("inbox",), {"data": "inbox/data"}, "data_dir"),
        (("inbox",), {"data": "inbox"}, "data_dir"),
        (("inbox",), {"results": "inbox/rejected/results"}, "deliver.folder"),
        (("inbox",), {"results": "link/results"}, "deliver.folder"),
        (("data/received",), {}, "its own files"),
        (("data/cases/mine",), {}, "its own files"),
    ],
)
def test_folders_within_each_other(tmp_path: Path, watched: tuple[str, ...], folders: dict[str, str], words: str) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "inbox")
    with pytest.raises(ConfigurationError, match=words):
        load(tmp_path, *watched, **folders)


def test_every_contradiction_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, ".", "inbox")
    assert all(words in str(caught.value) for words in ("watch.folders", "data_dir", "deliver.folder"))
