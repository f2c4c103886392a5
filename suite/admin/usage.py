"""What the process uses of the system; what this system does not tell is None."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from suite.system import descriptor_limit

_DESCRIPTORS: Final = Path("/proc/self/fd")
_MEMORY: Final = Path("/proc/self/statm")


#: Reactors by the module of their class, as ``--reactor`` has them; others are shown as that class.
_REACTORS: Final = {
    "suite.engine.reactor": "echo-engine",
    "twisted.internet.asyncioreactor": "asyncio",
    "twisted.internet.epollreactor": "epoll",
    "twisted.internet.kqreactor": "kqueue",
    "twisted.internet.pollreactor": "poll",
    "twisted.internet.selectreactor": "select",
}


def reactor_name(reactor: object) -> str:
    """The name of *reactor*."""
    return _REACTORS.get(type(reactor).__module__, type(reactor).__name__)


class Descriptors(NamedTuple):
    """File descriptors.

    :ivar open: how many are open.
    :ivar limit: how many may be (``RLIMIT_NOFILE``, the soft limit); None: not limited, or not known.
    """

    open: int | None
    limit: int | None


def descriptors() -> Descriptors:
    """How many descriptors this process has, and may have."""
    return Descriptors(_open_descriptors(), descriptor_limit())


def _open_descriptors() -> int | None:
    try:
        # Since Linux 6.2 the size of the directory is the number of its entries, of which there may be many.
        return _DESCRIPTORS.stat().st_size or len(os.listdir(_DESCRIPTORS)) - 1  # the listing has one itself
    except OSError:
        return None


def resident_bytes() -> int | None:
    """Bytes of memory that are this process's, and in RAM (proc(5), ``statm``)."""
    try:
        return int(_MEMORY.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def cpu_seconds() -> float:
    """Seconds of CPU that all threads of this process have had, in user mode and in the kernel."""
    return time.process_time()
