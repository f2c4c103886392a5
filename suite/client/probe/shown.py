"""A report for people: its JSON in indented lines.

Rules: every member is shown, whatever it is called, so that a new one needs nothing here; a dash is what is
not known. What came over the network is data: control characters are escaped, and depth is bounded.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from suite.text import host_and_port, one_line

#: Columns of a line, and of each level's indentation.
WIDTH: Final = 100
INDENT: Final = 2

#: Levels that are shown; ours have four.
DEEPEST: Final = 8

UNKNOWN: Final = "\N{EN DASH}"

#: A space at which a line does not end; never in what is shown (`one_line`), which escapes it.
TIE: Final = "\N{NO-BREAK SPACE}"


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The lines that show *report*."""
    return [*_section(report, 1)]


def _section(members: Mapping[str, Any], level: int) -> Iterator[str]:
    """The members in one column, names before values; sections with members of their own come below."""
    margin = " " * (INDENT * level)
    flat = {key: text for key, value in members.items() if (text := _flat(value)) is not None}
    width = max((len(_label(key)) for key in flat), default=0)
    for key, value in members.items():
        label = _label(key)
        if key in flat:
            begin = f"{margin}{label:<{width}}  "
            room = max(WIDTH - len(begin), WIDTH // 2)
            first, *more = _wrapped(flat[key], room)
            yield f"{begin}{first}".rstrip()
            for line in more:
                yield f"{' ' * len(begin)}{line}"
        elif level >= DEEPEST:
            yield f"{margin}{label}  …"
        else:
            yield f"{margin}{label}"
            for number, part in enumerate(value if isinstance(value, list) else [value]):
                if number:
                    yield f"{margin}{label}"
                yield from _section(part if isinstance(part, dict) else {"": part}, level + 1)


def _label(key: str) -> str:
    return one_line(key).replace("_", " ")


def _flat(value: Any, depth: int = 0) -> str | None:
    """*value* in one line; None if it has members of its own."""
    if isinstance(value, dict):
        return _named(value) if value else UNKNOWN
    if isinstance(value, list):
        parts = [_flat(each, depth + 1) if depth < DEEPEST else "…" for each in value]
        return None if None in parts else ", ".join(_whole(str(part)) for part in parts) or "none"
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return one_line(str(value))


def _named(value: Mapping[str, Any]) -> str | None:
    """An address, or a number of a registry by its name; None if *value* is something else."""
    if value.keys() == {"host", "port"} and isinstance(value["port"], int):
        return one_line(host_and_port(str(value["host"]), value["port"]))
    if value.keys() == {"path"}:
        return _flat(value["path"], DEEPEST)
    if "id" not in value or not value.keys() <= {"id", "name", "grease", "length"}:
        return None
    grease = value.get("grease") is True
    text = f"GREASE ({value['id']})" if grease else str(value.get("name", value["id"]))
    if "length" in value:
        text += f" [{value['length']}]"
    return one_line(text)


def _whole(part: str) -> str:
    """*part*, which stays in one line."""
    return part.replace(" ", TIE)


def _wrapped(text: str, room: int) -> list[str]:
    """*text* in lines of at most *room* columns, if its words allow that; at least one."""
    lines = textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False) or [""]
    return [line.replace(TIE, " ") for line in lines]
