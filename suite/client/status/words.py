"""Numbers, times and counts of a suite, for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

#: What stands for a number that is not known, or means nothing.
NOTHING: Final = "–"  # noqa: RUF001

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def shown_duration(seconds: float | None) -> str:
    """A time, in its two largest units: ``3 d 4 h``, ``12 min 5 s``, ``8 s``, ``0.2 s``."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    left = round(seconds)
    units = [*_UNITS, (1, "s")]
    for place, (size, unit) in enumerate(units[:-1]):
        if left >= size:
            smaller, smaller_unit = units[place + 1]
            rest = left % size // smaller
            return f"{left // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{left} s"


def shown_count(number: float | None) -> str:
    """A whole number, with separators."""
    return NOTHING if number is None else f"{number:,.0f}"


def shown_rate(number: float | None) -> str:
    """Something a second: ``0``, ``0.5``, ``12``, ``1,204``."""
    if number is None:
        return NOTHING
    if 0 < number < 0.05:
        return "<0.1"
    return f"{number:.1f}" if 0 < number < 9.95 else f"{number:,.0f}"


def by_word(counts: Mapping[str, int], most: int | None = None) -> str:
    """Counts by word, the largest first: ``12 per-peer, 3 denied``; empty if there are none.

    :param most: how many words; the others are counted together.
    """
    found = sorted(((count, word) for word, count in counts.items() if count), key=lambda pair: -pair[0])
    shown = found if most is None or len(found) <= most else found[: most - 1]
    text = [f"{count:,} {word}" for count, word in shown]
    if len(shown) < len(found):
        text.append(f"{sum(count for count, _ in found[len(shown) :]):,} others")
    return ", ".join(text)


def shown_instant(text: str | None) -> str:
    """An instant in RFC 3339, in local time, to the second; without the day if that is today."""
    if text is None:
        return NOTHING
    try:
        then = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return text
    return f"{then:%H:%M:%S}" if then.date() == today() else f"{then:%Y-%m-%d %H:%M:%S}"


def today() -> date:
    """The day that it is here."""
    return datetime.now(UTC).astimezone().date()


def shown_day(text: str | None) -> str:
    """The day of an instant in RFC 3339, in UTC."""
    return NOTHING if text is None else text[:10]


def counted(number: int, thing: str) -> str:
    """``1 endpoint``, ``2 endpoints``."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
