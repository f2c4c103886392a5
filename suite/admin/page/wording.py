"""Numbers, sizes, durations and instants for people; ``static/wording.js`` says them in the same words.

Rules: what is not known is a dash, never 0.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

#: What stands for a number that is not known.
UNKNOWN: Final = "\N{EN DASH}"

#: Days that a certificate has left when it is time to renew it; the suite warns then, too.
FEW_DAYS: Final = 7

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")


def number(value: float | None) -> str:
    """*value* with separators: ``12,345``."""
    return UNKNOWN if value is None else f"{value:,}"


def size(count: float | None) -> str:
    """*count* bytes: ``512 B``, ``1.2 MiB``."""
    if count is None:
        return UNKNOWN
    if count < 1024:
        return f"{count:.0f} B"
    for unit in _UNITS:
        count /= 1024
        if count < 1023.95 or unit == _UNITS[-1]:
            break
    return f"{count:.0f} {unit}" if count >= 99.95 else f"{count:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """*seconds* in one or two units: ``250 ms``, ``4.2 s``, ``3 min 20 s``, ``2 d 4 h``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00095 or not seconds else f"{seconds * 1e6:.0f} µs"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for unit, below, per_below in (("d", "h", 3600), ("h", "min", 60), ("min", "s", 1)):
        length = {"d": 86_400, "h": 3600, "min": 60}[unit]
        if whole >= length:
            rest = whole % length // per_below
            return f"{whole // length} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def instant(time: str | None) -> str:
    """An instant as RFC 3339 has it, for people: ``2026-11-27 01:00:00 UTC``."""
    if time is None:
        return UNKNOWN
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(time: str) -> str:
    """The time of day of an instant, in UTC: ``01:00:00``."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%H:%M:%S}"


def day(time: str) -> str:
    """The day of an instant, in UTC: ``2026-11-27``."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d}"


def plural(count: int, noun: str) -> str:
    """*count* of *noun*: ``1 endpoint``, ``2 endpoints``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def urgency(days: int) -> str:
    """How urgent it is to renew a certificate with *days* left: a class of the style sheet."""
    return "bad" if days < 0 else "warning" if days < FEW_DAYS else ""


def days_left(days: int) -> str:
    """*days*, whole ones, for people."""
    return "expired" if days < 0 else f"{plural(days, 'day')} left"
