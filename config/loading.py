"""Load settings: defaults, overridden by a YAML file, overridden by environment variables `COREWATCH__SECTION__KEY`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from config.folders import contradictions
from config.section import Section
from config.settings import Settings
from corewatch.errors import ConfigurationError

PREFIX = "COREWATCH__"
_S = TypeVar("_S", bound=Section)
DEFAULT_FILES = (Path("corewatch.yaml"), Path("/etc/corewatch/corewatch.yaml"))


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that occurs twice in one section: YAML would silently use the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are all different."""
        seen: set[Any] = set()
        for key_node, _value in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} occurs twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def find_file(explicit: Path | None) -> Path | None:
    """Path of the settings file: the given one, else the first of `DEFAULT_FILES` that exists, else None.

    Raises
    ------
    ConfigurationError
        The given file does not exist.
    """
    if explicit is not None:
        if not explicit.is_file():
            raise ConfigurationError(f"the settings file {explicit} does not exist", "name an existing file with --config")
        return explicit
    return next((f for f in DEFAULT_FILES if f.is_file()), None)


def load_settings(file: Path | None = None, environ: Mapping[str, str] | None = None, *, search: bool = True) -> Settings:
    """Load and check the settings. Relative paths in a file are relative to the file's folder.

    Parameters
    ----------
    search
        Whether to look for one of `DEFAULT_FILES` where `file` is None.

    Raises
    ------
    ConfigurationError
        The file is not YAML, a key is unknown, a value is invalid, or folders contradict each other. The message names all
        problems.
    """
    found = find_file(file) if search or file is not None else None
    data: dict[str, Any] = {} if found is None else _read_yaml(found)
    _merge(data, _from_environment(os.environ if environ is None else environ))
    origin = "settings" if found is None else str(found)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {_describe(e)}" for e in error.errors()]
        raise ConfigurationError(f"{origin}: " + "; ".join(lines)) from error
    settings = settings if found is None else _absolute(settings, found.resolve().parent)
    wrong = list(contradictions(settings))
    if wrong:
        raise ConfigurationError(f"{origin}: " + "; ".join(wrong))
    return settings


def _describe(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key; see config/corewatch.example.yaml for the keys there are"
    return str(error["msg"])


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} must hold sections such as `listener:`, not a {type(data).__name__}")
    return data


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        *sections, key = name.removeprefix(PREFIX).lower().split("__")
        here = data
        for section in sections:
            here = here.setdefault(section, {})
            if not isinstance(here, dict):
                raise ConfigurationError(f"the environment variable {name} contradicts another one that sets {section} as a whole")
        here[key] = _value(name, text)
    return data


def _value(name: str, text: str) -> Any:
    """Lists and sections are parsed as YAML; other values stay text, so that a password of digits does not become a number."""
    if text == "null":
        return None
    if not text.startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the environment variable {name} is not valid YAML: {error}") from error


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _absolute(section: _S, base: Path) -> _S:
    """Resolve relative paths against the settings file's folder, so that every program uses the same folders."""
    return section.model_copy(update={name: _absolute_value(getattr(section, name), base) for name in type(section).model_fields})


def _absolute_value(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, Section):
        return _absolute(value, base)
    if isinstance(value, tuple):
        return tuple(_absolute_value(v, base) for v in value)
    return value
