"""Which processes coverage measures, when it measures this one.

Those of pytest-xdist, and the template of `tests.forking` with all its forks; not what the tests execute:
hundreds of processes that would take 0.2 s of a processor more, each for lines that others have run. Where
the subject of a test runs in no other process, the fixture `measured`, or `MEASURING`, sees to it.

Of these, not while tests run that are in `REPETITIVE`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

#: The variable that lets coverage begin when Python does.
STARTS: Final = "COVERAGE_PROCESS_START"


#: How the names of tests begin that run, again and again, lines that other tests run as well: measuring them
#: would take as long again and find nothing.
REPETITIVE: Final = (
    "tests/admin/api/test_watching.py::test_a_reader_that_is_too_slow_is_told_and_costs_little",
    "tests/admin/test_changing.py::test_changes_under_load_neither_hang_nor_harm_a_byte",
    "tests/admin/test_control_socket.py::test_a_flood_of_bad_requests_harms_nobody_else",
    "tests/admin/workers/test_storm.py",
    "tests/client/load/test_load.py::test_every_transport_in_every_manner",
    "tests/client/load/test_workers.py::test_every_message_is_in_the_figures",
    "tests/client/probe/test_fetch.py::test_anything_can_be_shown",
    "tests/client/test_histogram.py::test_the_reference_reads_what_we_write",
    "tests/end_to_end/",
    "tests/engine/test_ring.py::test_whoever_ends_with_its_data_sees_the_end",
    "tests/faults/test_packets.py::test_gemodel",
    "tests/faults/test_packets.py::test_the_length_of_bursts",
    "tests/faults/test_pipe.py::test_a_byte_at_a_time_costs_the_same_for_each",
    "tests/faults/test_pipe.py::test_the_share_of_corrupt_bytes",
    "tests/faults/test_replay.py::test_whatever_was_decided_is_read_again",
    "tests/gallery/test_certificates.py::test_another_year_changes_nothing",
    "tests/logs/test_log.py::test_2000_bad_clients_are_few_lines_and_none_of_them_is_missing",
    "tests/server/test_lifecycle.py::test_20_of_20_echoes_under_way_complete",
    "tests/server/test_reload.py::test_no_connection_is_lost_during_50_reloads",
)


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


def pause() -> Callable[[], None]:
    """Measure nothing in this thread, and in those that it starts; return what goes on with it.

    Coverage itself can be stopped, but not started again without a warning of what has been imported before.
    """
    here, in_threads = sys.gettrace(), threading.gettrace()

    def go_on() -> None:
        sys.settrace(here)
        threading.settrace(in_threads)

    sys.settrace(None)
    threading.settrace(None)
    return go_on
