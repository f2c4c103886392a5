"""A TOML writer, since the standard library only has a parser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def to_toml(table: Mapping[str, object]) -> str:
    """*table* as a TOML document; its values may be strings, paths, numbers, booleans, arrays and tables.

    :raises TypeError: *table* is not one, or contains a value of another type.
    """
    if not isinstance(table, Mapping):
        raise TypeError(f"{table!r} is not a configuration; expected TOML text, a mapping or a Path")
    return "".join(f"{_toml_string(key)} = {_toml(value, key)}\n" for key, value in table.items())


def _toml(value: object, key: str) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            return _toml_string(str(value))
        case Mapping():
            pairs = (f"{_toml_string(str(k))} = {_toml(v, f'{key}.{k}')}" for k, v in value.items())
            return f"{{ {', '.join(pairs)} }}"
        case list() | tuple():
            return f"[{', '.join(_toml(item, key) for item in value)}]"
    raise TypeError(f"{key}: {value!r} cannot be written as TOML; expected a string, a number, a table, …")


def _toml_string(text: str) -> str:
    """*text* in quotes: as in JSON, except that TOML also requires DEL to be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
