"""`corewatch model` as its users call it: what it prints, what it leaves, and with which exit code it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.command_group import ExitCode
from cli.main import corewatch
from worker.models.manifest import MANIFEST_NAME, read_manifest, sha256_of
from worker.models.registry import BUILTIN_DIR

WEIGHTS = BUILTIN_DIR / "phantom-demo" / "weights.h5"
Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs `corewatch model ...` at a site whose rules name a second model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corewatch.yaml").write_text("model: {name: mine}\nseries: {rules: [{name: a, model: lvo}, {name: b}]}\n")
    return lambda *words: CliRunner().invoke(corewatch, ["model", *map(str, words)])


@pytest.fixture
def installed(invoke: Invoke, tmp_path: Path) -> Path:
    """Folder of the model `mine`."""
    assert invoke("install", WEIGHTS, "--name", "mine").exit_code == ExitCode.DONE
    return tmp_path / "data" / "models" / "mine"


def test_everything_that_is_said_of_a_model_is_in_its_manifest(invoke: Invoke, tmp_path: Path) -> None:
    said = {
        "--name": "mine",
        "--version": "2020-27",
        "--sha256": sha256_of(WEIGHTS).upper(),
        "--asymmetry-sd-hu": "2.5",
        "--intended-use": "Comparison with perfusion CT in the study X.",
        "--citation": "Giancardo et al., NeuroImage: Clinical 2023;37:103362.",
        "--licence": "Research only.",
    }

    result = invoke("install", WEIGHTS, "--json", *(word for pair in said.items() for word in pair))

    assert json.loads(result.output) == {"name": "mine", "version": "2020-27", "sha256": sha256_of(WEIGHTS)}
    manifest = read_manifest(tmp_path / "data" / "models" / "mine")
    assert manifest.thresholds.asymmetry_sd_hu == 2.5
    assert [manifest.intended_use, manifest.citation, manifest.licence] == [
        said[f"--{key}"] for key in ("intended-use", "citation", "licence")
    ]
    assert manifest.source == "weights.h5"


def test_without_a_word_on_its_use_it_is_for_research_only(installed: Path) -> None:
    assert read_manifest(installed).intended_use == "Research use only, not for diagnosis."


def test_it_says_how_to_use_a_model_that_is_not_in_use(invoke: Invoke) -> None:
    assert "model: {name: other}" in invoke("install", WEIGHTS, "--name", "other").output
    for name in ("mine", "lvo"):
        output = invoke("install", WEIGHTS, "--name", name).output
        assert "model: {" not in output
        assert "after a restart" in output


def test_the_list_shows_what_is_in_use_and_what_is_broken(invoke: Invoke, installed: Path) -> None:
    invoke("install", WEIGHTS, "--name", "lvo")
    (installed / MANIFEST_NAME).write_text("{")

    lines = {line["name"]: line for line in json.loads(invoke("list", "--json").output)}

    assert {name: (line["origin"], line["in_use"], line["problem"] is None) for name, line in lines.items()} == {
        "phantom-demo": ("built in", False, True),
        "mine": ("installed", True, False),
        "lvo": ("installed", True, True),
    }
    table = invoke("list").output
    assert "lvo *" in table
    assert "not valid" in " ".join(table.split())


def test_a_model_that_changed_does_not_verify(invoke: Invoke, installed: Path) -> None:
    assert invoke("verify", "mine").output == "mine: sound\n"
    assert invoke("verify").exit_code == ExitCode.DONE
    weights = installed / read_manifest(installed).weights
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    result = invoke("verify")

    assert result.exit_code == ExitCode.FAILED
    assert "phantom-demo: sound" in result.output
    assert "mine: model mine: weights-" in result.output
    assert "is not the file that was installed" in result.output
    found = {line["name"]: line["sound"] for line in json.loads(invoke("verify", "--json").output)}
    assert found == {"phantom-demo": True, "mine": False}
    invoke("install", WEIGHTS, "--name", "mine")
    assert invoke("verify").exit_code == ExitCode.DONE, "as the message advises"


def test_a_model_that_is_not_there_does_not_verify(invoke: Invoke) -> None:
    result = invoke("verify", "absent")

    assert result.exit_code == ExitCode.FAILED
    assert "there is no model 'absent' (there are: phantom-demo)" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((str(WEIGHTS), "--name", "phantom-demo"), "built-in"),
        ((str(WEIGHTS), "--name", "Mine"), "cannot be a model's name"),
        ((str(WEIGHTS), "--name", "x", "--sha256", "0" * 64), "not the file that was meant"),
        ((str(WEIGHTS), "--name", "x", "--adapter", "unheard-of"), "no adapter 'unheard-of'; there are: deepsymnet"),
        ((str(WEIGHTS), "--name", "x", "--version", "a\\b"), "version: use ASCII"),
        (("absent.h5", "--name", "x"), "absent.h5 cannot be read"),
        (("corewatch.yaml", "--name", "x"), "not HDF5"),
        (("http://127.0.0.1:1/x.h5",), "needs its SHA-256"),
    ],
)
def test_one_line_says_what_cannot_be_installed(invoke: Invoke, words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = invoke("install", *words)

    assert result.exit_code == ExitCode.USAGE
    assert message in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    models = tmp_path / "data" / "models"
    assert not models.exists() or list(models.iterdir()) == []
