"""The table of all settings, made from the settings themselves: `python -m config.reference > docs/settings.md`."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.section import Section
from config.settings import Settings

HEAD = """# Settings

Made by `python -m config.reference`. Every key may be left out; unknown keys fail. Any key can come from the environment:
`COREWATCH__LISTENER__PORT=11113`; lists and sections are written there as in the file. `corewatch config check` reads a file and
names every mistake, `corewatch config show` prints what is in effect.
"""


def reference() -> str:
    """The page, Markdown."""
    return HEAD + "".join(_section("", Settings, top=True))


def _section(path: str, section: type[Section], *, top: bool = False) -> Iterator[str]:
    rows, below = [], []
    for name, field in section.model_fields.items():
        key = field.alias or name
        inner = _inner(field.annotation)
        if inner is None or not top:
            shown = _type(field.annotation) if inner is None else ("list, see below" if _many(field.annotation) else "see below")
            rows.append(f"| `{key}` | {shown} | {_default(field)} | {_words(field)} |\n")
        if inner is not None:
            below.append((f"{path}.{key}" if path else key, inner, _many(field.annotation)))
    if rows:
        yield f"\n## {path or 'top level'}\n\n{(section.__doc__ or '').strip()}\n\n" if not path else ""
        yield "| key | type | default | meaning |\n|---|---|---|---|\n"
        yield from rows
    for inner_path, inner, many in below:
        yield f"\n## {inner_path}{' (each)' if many else ''}\n\n{(inner.__doc__ or '').strip()}\n\n"
        yield from _section(inner_path, inner)


def _inner(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner(part)) is not None), None)


def _many(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(get_origin(a) is tuple for a in get_args(annotation))


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{p}`" for p in parts)
    if origin is Annotated:
        return _type(parts[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(p) for p in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if annotation is SecretStr:
        return "text (secret)"
    names = {str: "text", int: "number", float: "number", bool: "yes or no", type(None): "null"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Section) or (isinstance(value, tuple) and value and isinstance(value[0], Section)):
        return "see below"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
    return f"`{text.replace('|', chr(92) + '|')}`" if text else '`""`'


def _words(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
