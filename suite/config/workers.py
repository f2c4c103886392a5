"""How many processes serve: ``workers`` in a file, ``--workers`` on the command line."""

from __future__ import annotations

from typing import Final

from suite.config.values import Values
from suite.cores import cores

#: As many as there are cores.
AUTO: Final = 0

#: The most: more than any machine has use for, and few enough to name a slip of the finger.
MOST_WORKERS: Final = 256

#: What may be said.
EXPECTED: Final = f'1 to {MOST_WORKERS}, or "auto" for one a core'


def read_workers(reader: Values, value: object) -> int:
    """The number of workers in *value*, or `AUTO`.

    :raises ConfigError: it is neither.
    """
    if value == "auto":
        return AUTO
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise reader.wrong_type("workers", value, EXPECTED)
    if isinstance(value, str) or not 1 <= value <= MOST_WORKERS:
        raise reader.error("workers", f"{value!r} cannot be used; expected {EXPECTED}")
    return value


def parse_workers(text: str) -> int | None:
    """The number of workers that *text* says, or `AUTO`; None if it says neither."""
    if text == "auto":
        return AUTO
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_WORKERS:
        return int(text)
    return None


def counted(workers: int) -> int:
    """How many processes *workers* are on this machine."""
    return min(cores(), MOST_WORKERS) if workers == AUTO else workers
