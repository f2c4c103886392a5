"""Times and sizes, for people: three significant digits and a unit."""

from __future__ import annotations


def shown_time(microseconds: float) -> str:
    """A latency, for people: ``87 µs``, ``1.53 ms``, ``12.5 s``."""
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
    if number >= 99.95 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
