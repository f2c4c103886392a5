"""How the tests are spread over processes, and what these processes inherit."""

from __future__ import annotations

import os
import signal

import pytest

# A shell lets what it starts in the background ignore SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes ``-n auto`` makes: two for each core, since most tests wait for another process."""
    return 2 * len(os.sched_getaffinity(0))
