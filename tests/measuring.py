"""Which processes coverage measures, when it measures this one.

Those of pytest-xdist, and the template of `tests.forking` with all its forks; not what the tests execute:
hundreds of processes that would take 0.2 s of a processor more, each for lines that others have run. Where
the subject of a test runs in no other process, the fixture `measured`, or `MEASURING`, sees to it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

#: Variables that make a Python that is executed measure what it runs, and how (``measured.toml``).
MEASURING: Final = (
    {
        "MEASURED": str(Path(__file__).parents[1]),
        "COVERAGE_PROCESS_START": str(Path(__file__).with_name("measured.toml")),
    }
    if "coverage" in sys.modules and sys.modules["coverage"].Coverage.current() is not None
    else {}
)
