"""How the tests are spread over processes."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes ``-n auto`` makes: two for each core, since most tests wait for another process."""
    return 2 * len(os.sched_getaffinity(0))
