"""Returning memory to the system.

glibc keeps the memory of ten thousand closed TLS connections: each leaves a small hole in the heap, and only
``malloc_trim`` (malloc_trim(3)) returns those.
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
    except (AttributeError, OSError, TypeError):  # the C library is not glibc
        return _no_trim
    return trim


_trim: Final = _find_trim()


def trim_heap() -> None:
    """Return free heap memory to the operating system, if the C library has a call for it."""
    _trim(0)
