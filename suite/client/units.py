"""Sizes and times, as people write and read them.

Rules: what is written may have a unit, ``64KiB`` or ``250ms``; what is shown has three digits that count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from suite.errors import UsageError

SIZES: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20}
TIMES: Final = {"": 1.0, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

_NUMBER = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,9})?) ?(?P<unit>[A-Za-zµ]*)")


def parse_size(option: str, text: str) -> int:
    """*text* in bytes.

    :param option: what the user gave it for, to name in an error.
    :raises UsageError: it is no size.
    """
    value = _parse(option, text, SIZES, "a size such as 64 or 16KiB")
    if value != int(value):
        raise UsageError(f"{option} {text!r}: {value:g} bytes; expected a whole number")
    return int(value)


def parse_seconds(option: str, text: str) -> float:
    """*text* in seconds.

    :raises UsageError: it is no time.
    """
    return _parse(option, text, TIMES, "a time such as 10s, 250ms or 5m")


def _parse(option: str, text: str, units: Mapping[str, float], expected: str) -> float:
    found = _NUMBER.fullmatch(text)
    if found is None or found["unit"] not in units:
        raise UsageError(f"{option} {text!r}: expected {expected}")
    return float(found["number"]) * units[found["unit"]]


def shown_time(microseconds: float) -> str:
    """A latency, for people: ``87.0 µs``, ``1.53 ms``, ``12.0 s``."""
    for unit, size in (("µs", 1), ("ms", 1000), ("s", 1_000_000)):
        if microseconds < 999.5 * size or unit == "s":
            break
    return f"{_three_digits(microseconds / size)} {unit}"


def shown_size(count: float) -> str:
    """Bytes, for people: ``17 B``, ``1.50 KiB``."""
    for unit, size in (("B", 1), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30), ("TiB", 2**40)):
        if count < 999.5 * size or unit == "TiB":
            break
    return f"{count / size:g} {unit}" if count % size == 0 else f"{_three_digits(count / size)} {unit}"


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
