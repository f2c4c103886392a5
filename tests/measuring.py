"""Which processes coverage measures, when it measures this one.

Those of pytest-xdist, and the template of `tests.forking` with all its forks; not what the tests execute:
hundreds of processes that would take 0.2 s of a processor more, each for lines that others have run. Where
the subject of a test runs in no other process, the fixture `measured`, or `MEASURING`, sees to it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

#: The variable that lets coverage begin when Python does.
STARTS: Final = "COVERAGE_PROCESS_START"


def current() -> Any:
    """Coverage's measurement of this process; None if there is none."""
    return sys.modules["coverage"].Coverage.current() if "coverage" in sys.modules else None


#: Variables that make a Python that is executed measure what it runs, and how (``measured.toml``).
MEASURING: Final = (
    {"MEASURED": str(Path(__file__).parents[1]), STARTS: str(Path(__file__).with_name("measured.toml"))}
    if current() is not None or "MEASURED" in os.environ
    else {}
)


def begin() -> None:
    """Measure this process from here on, where this is not done yet, but is to be done."""
    if MEASURING and current() is None:
        import coverage  # elsewhere it may not be there

        os.environ.update(MEASURING)
        coverage.process_startup()
        for name in MEASURING:
            del os.environ[name]
