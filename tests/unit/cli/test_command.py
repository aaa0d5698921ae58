"""The command line itself: help, version, settings, errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.command_group import CommandEntry, ExitCode, LazyGroup
from cli.main import SECTIONS, corewatch
from corewatch import RESEARCH_LABEL, __version__
from corewatch.errors import ConfigurationError, NotAnalysed, OperatorNeeded, RetryLater
from corewatch.reasons import Reason
from corewatch.states import CaseState

HEAVY = ("tensorflow", "numpy", "pydantic", "sqlalchemy", "celery", "pynetdicom", "rich", "flower")
COMMANDS = [name for section in SECTIONS.values() for name in section]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(corewatch, list(arguments))


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from cli.main import main; sys.argv = ['corewatch', '--help']\n"
        "try: main()\n"
        f"finally: sys.stderr.write(' '.join(m for m in {HEAVY} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert RESEARCH_LABEL in done.stdout


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in {"cases", "config", "model"}])
def test_every_command_can_be_imported_and_takes_settings(name: str) -> None:
    output = invoke(name, "--help").output
    assert "--config F" in output


@pytest.mark.parametrize(
    ("group", "names"),
    [("cases", ["list", "show", "retry", "cancel"]), ("config", ["show", "check"]), ("model", ["install", "list", "verify"])],
)
def test_every_subcommand_takes_settings_and_prints_json(group: str, names: list[str]) -> None:
    for name in names:
        output = invoke(group, name, "--help").output
        assert "--config F" in output
        assert "--json" in output


def test_the_version_bears_the_label() -> None:
    assert invoke("--version").output == f"corewatch {__version__} ({RESEARCH_LABEL})\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["run"], ["cases", "list", "--limit", "0"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigurationError("data_dir: wrong; set it right"), 2, "Error: data_dir: wrong; set it right\n"),
        (NotAnalysed(Reason.NOT_CT), 3, "Error: The series is not a CT.\n"),
        (OperatorNeeded("look at it"), 4, "Error: look at it\n"),
        (RetryLater("busy"), 4, "Error: busy\n"),
        (FileNotFoundError(2, "No such file or directory", "inbox"), 4, "Error: inbox: No such file or directory\n"),
    ],
)
def test_errors_of_ours_are_one_line_and_their_code(
    error: Exception, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("config.loading.load_settings", fail)
    result = invoke("config", "show")
    assert (result.exit_code, result.output) == (code, line)


def test_a_defect_is_reported_with_its_traceback_and_exits_with_4(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("config.loading.load_settings", fail)
    result = invoke("config", "show")
    assert result.exit_code == ExitCode.FAILED
    assert result.output == "Error: unexpected error: ZeroDivisionError: oh\n"
    assert "Traceback" in caplog.text


def test_a_case_that_fails_is_still_one_json_object(tmp_path: Path) -> None:
    script = (
        "import sys, worker.foreground; from cli.main import main\n"
        "def fail(*_, **__): print('noise of a library'); raise ZeroDivisionError('oh')\n"
        "worker.foreground.run_case = fail; sys.argv = ['corewatch', 'run', *sys.argv[1:]]; main()"
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text('{"state": "delivered"}')  # of an earlier case
    command = [sys.executable, "-c", script, str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.FAILED
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["reason"], answer["notice"]) == ("failed", None, RESEARCH_LABEL)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == answer
    assert "noise of a library" in done.stderr
    assert "ZeroDivisionError: oh" in done.stderr


def test_an_entry_that_is_no_command_is_a_defect() -> None:
    group = LazyGroup("g", sections={"A": {"x": CommandEntry("help", "cli.command_group:ExitCode")}})
    assert isinstance(CliRunner().invoke(group, ["x"]).exception, SystemExit)


@pytest.mark.parametrize(("state", "code"), [(CaseState.DELIVERED, 0), (CaseState.NOT_ANALYSED, 3), (CaseState.FAILED, 4)])
def test_exit_codes_of_a_case(state: CaseState, code: int) -> None:
    assert ExitCode.of(state) == code


class TestConfig:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "site.yaml"
        path.write_text(
            "listener: {port: 4242}\nbroker: {url: 'redis://:secret-word@queue/0'}\nflower: {password: secret-word}\n"
            "deliver: {email: {host: mail, from: a@b.example, to: [a@b.example], user: u, password: secret-word}}\n"
        )
        return path

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_show_prints_the_settings_in_effect_and_no_secret(self, file: Path, place: int) -> None:
        words = ["config", "show"]
        output = invoke(*words[:place], "--config", str(file), *words[place:]).output
        values = yaml.safe_load(output)
        assert values["listener"]["port"] == 4242
        assert values["series"]["idle_s"] == 20.0
        assert values["deliver"]["email"]["from"] == "a@b.example"
        assert "secret-word" not in output

    def test_what_is_shown_can_be_loaded_again(self, tmp_path: Path) -> None:
        shown = tmp_path / "shown.yaml"
        shown.write_text(invoke("config", "show").output)
        assert invoke("config", "check", "--config", str(shown)).exit_code == 0

    def test_show_as_json(self, file: Path) -> None:
        values = json.loads(invoke("config", "show", "--json", "--config", str(file)).output)
        assert values["listener"]["port"] == 4242
        assert "secret-word" not in json.dumps(values)

    def test_the_environment_counts(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COREWATCH__LISTENER__PORT", "104")
        assert json.loads(invoke("config", "show", "--json", "--config", str(file)).output)["listener"]["port"] == 104

    def test_check_names_every_problem(self, tmp_path: Path) -> None:
        file = tmp_path / "wrong.yaml"
        file.write_text("listener: {port: 99999}\nlistner: {}\n")
        result = invoke("config", "check", "--config", str(file))
        assert result.exit_code == ExitCode.USAGE
        assert "listener.port" in result.output
        assert "listner: unknown key" in result.output
        answer = invoke("config", "check", "--json", "--config", str(file))
        assert (answer.exit_code, json.loads(answer.output)["valid"]) == (ExitCode.USAGE, False)

    def test_check_of_a_good_file(self, file: Path) -> None:
        result = invoke("config", "check", "--config", str(file))
        assert (result.exit_code, result.output) == (0, f"{file}: valid\n")

    def test_a_file_that_does_not_exist_is_named(self) -> None:
        result = invoke("config", "check", "--config", "absent.yaml")
        message = "Error: the settings file absent.yaml does not exist; name an existing file with --config\n"
        assert (result.exit_code, result.output) == (2, message)
