"""How the tests are spread over processes, what these processes inherit, and minted certificates."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from suite import certs
from tests.forking import template

if "coverage" in sys.modules and sys.modules["coverage"].Coverage.current() is not None:
    # Whatever is started from now on is measured, too: the package coverage sees to it when Python starts.
    os.environ["MEASURED"] = str(Path(__file__).parents[1])
    os.environ["COVERAGE_PROCESS_START"] = str(Path(__file__).with_name("measured.toml"))

# A test that waits for a processor has not failed.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# A shell lets what it starts in the background ignore SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes ``-n auto`` makes: three a core, since most tests wait for another process."""
    return 3 * len(os.sched_getaffinity(0))


def pytest_unconfigure() -> None:
    """End what the tests have started that outlives them."""
    template.close()


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of minted certificates that tests only read."""
    directory = tmp_path_factory.mktemp("certs")
    certs.mint(directory)
    return directory


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A directory of minted certificates that a test may change."""
    certs.mint(tmp_path)
    return tmp_path
