"""Settings: the example is right, unknown keys fail, the environment goes over the file, secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import Settings, load_settings
from config.reference import reference
from corewatch.errors import ConfigurationError

EXAMPLE = Path(__file__).resolve().parents[3] / "config" / "corewatch.example.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "corewatch.yaml"
    path.write_text(text)
    return path


def test_the_example_holds_the_built_in_values() -> None:
    shown = load_settings(EXAMPLE, {}).model_dump()
    built_in = Settings().model_dump()
    for given_section, section in ((shown, built_in),):
        for key in yaml.safe_load(EXAMPLE.read_text()):
            if key in {"data_dir", "watch", "deliver"}:
                continue  # their paths are made absolute
            assert given_section[key] == section[key], key


def test_an_empty_file_is_the_built_in_values(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "# nothing\n"), {}).listener == Settings().listener


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "listener: {tls: {certificate: c.pem, key: /k.pem, authority: a.pem}}"), {})
    assert settings.data_dir == tmp_path / "data"
    assert settings.watch.folders[0].path == tmp_path / "inbox"
    assert settings.deliver.folder is not None
    assert settings.deliver.folder.path == tmp_path / "results"
    assert settings.listener.tls is not None
    assert settings.listener.tls.certificate == tmp_path / "c.pem"
    assert settings.listener.tls.key == Path("/k.pem")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listner: {port: 1}", "listner: unknown key"),
        ("listener: {prot: 1}", "listener.prot: unknown key"),
        ("listener: {port: 70000}", "listener.port"),
        ("listener: {ae_title: FAR_TOO_LONG_A_TITLE}", "listener.ae_title"),
        ("- a list", "must hold sections"),
        ("a: [", "not valid YAML"),
        ("deliver: {pacs: [{name: email, ae_title: A, host: h, port: 1}]}", "must be unique"),
        ("series: {rules: [{name: x, min_slices: 0}]}", r"series\.rules\.0\.min_slices"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_settings(write(tmp_path, text), {})


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(tmp_path, "listener: {port: -1}\nmodel: {alert_ml: 0}\nmore: 1"), {})
    assert all(key in str(caught.value) for key in ("listener.port", "model.alert_ml", "more"))


@pytest.mark.parametrize("value", [".inf", ".nan", "20000", "-1"])
def test_an_alert_that_no_head_could_reach_is_refused(tmp_path: Path, value: str) -> None:
    """20000 is what 20 mL are in cubic millimetres."""
    with pytest.raises(ConfigurationError, match=r"model\.alert_ml"):
        load_settings(write(tmp_path, f"model: {{alert_ml: {value}}}"), {})


@pytest.mark.parametrize("key", ["series: {idle_s", "work: {detect_limit_s", "retention: {free_gib"])
def test_no_limit_is_infinite(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match="finite number"):
        load_settings(write(tmp_path, f"{key}: .inf}}"), {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings(tmp_path / "none.yaml", {})


def test_environment_goes_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "listener: {port: 104, ae_title: FILE}")
    environment = {
        "COREWATCH__LISTENER__PORT": "11199",
        "COREWATCH__LISTENER__PEERS": "[{ae_title: PACS, host: 10.0.0.5}]",
        "COREWATCH__DELIVER__EMAIL": "{host: mail, from: a@b.example}",
        "COREWATCH__DATA_DIR": "/var/lib/corewatch",
        "COREWATCH__FLOWER__PASSWORD": "12345",
        "COREWATCH__MODEL__SPREAD": "false",
        "COREWATCH__MODEL__PERTURBATIONS": "15",
        "COREWATCH__DELIVER__FOLDER": "null",
    }
    settings = load_settings(file, environment)
    assert (settings.listener.port, settings.listener.ae_title) == (11199, "FILE")
    assert settings.listener.peers[0].host == "10.0.0.5"
    assert settings.deliver.email is not None
    assert settings.deliver.email.sender == "a@b.example"
    assert settings.data_dir == Path("/var/lib/corewatch")
    assert settings.flower.password is not None
    assert settings.flower.password.get_secret_value() == "12345"
    assert (settings.model.spread, settings.model.perturbations) == (False, 15)
    assert settings.deliver.folder is None


def test_an_unknown_environment_key_fails() -> None:
    with pytest.raises(ConfigurationError, match=r"listener\.prot: unknown key"):
        load_settings(None, {"COREWATCH__LISTENER__PROT": "1"})


def test_an_environment_key_beneath_a_value_fails_clearly() -> None:
    with pytest.raises(ConfigurationError):
        load_settings(None, {"COREWATCH__DATA_DIR": "x", "COREWATCH__DATA_DIR__DEEPER": "y"})


def test_secrets_do_not_show(tmp_path: Path) -> None:
    text = """
        broker: {url: 'redis://:hush@h/0'}
        deliver: {email: {host: h, from: a@b.example, password: hush}}
        flower: {password: hush}
    """
    settings = load_settings(write(tmp_path, text), {})
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4)))
def test_any_yaml_gives_settings_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: dict[str, object]) -> None:
    file = write(tmp_path_factory.mktemp("any"), yaml.safe_dump(data))
    try:
        load_settings(file, {})
    except ConfigurationError as error:
        assert str(error)


def test_the_reference_is_current() -> None:
    page = EXAMPLE.parents[1] / "docs" / "settings.md"
    assert page.read_text() == reference(), "renew it: python -m config.reference > docs/settings.md"


def test_every_key_stands_in_the_reference() -> None:
    page = reference()
    for name, field in Settings.model_fields.items():
        assert name in page
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"`{key}`" in page or key == "sender", (name, key)


@pytest.mark.parametrize(
    ("for_all", "for_each", "asked"),
    [
        ("header", (None, None), []),
        ("query", (None, None), ["a", "b"]),
        ("header", ("query", None), ["a"]),
        ("query", ("header", None), ["b"]),
    ],
)
def test_which_sources_are_asked_how_many_images_a_series_has(
    for_all: str, for_each: tuple[str | None, ...], asked: list[str]
) -> None:
    sources = [
        {"name": name, "ae_title": name.upper(), "host": "h", "port": 104, "expected": each}
        for name, each in zip("ab", for_each, strict=True)
    ]
    settings = Settings.model_validate({"series": {"expected": for_all}, "sources": sources})
    assert [source.name for source in settings.queried_sources] == asked
