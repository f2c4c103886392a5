"""Giving memory back.

glibc keeps what ten thousand closed TLS connections have used: each left a little hole that only
``malloc_trim`` (malloc_trim(3)) looks for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final


def _no_trim(_pad: int) -> int:
    return 0


def _find_trim() -> Callable[[int], int]:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library than glibc
        return _no_trim
    return trim


_trim: Final = _find_trim()


def trim_heap() -> None:
    """Return free memory to the operating system, where the C library can be asked to."""
    _trim(0)
