"""A load from several processes is one load."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import cli
from suite.client.histogram import Histogram
from suite.client.load.figures import Figures, merged
from suite.client.load.options import Options
from suite.client.load.results import make_result
from suite.client.load.schedule import Part, Rate, Schedule
from suite.client.load.series import Interval
from suite.client.load.stats import AddressStats
from suite.client.load.workers import Opened, Word, WorkerError, Workers
from tests.client.load.simulated import TARGET
from tests.client.load.test_load import latencies_of, load, target_of
from tests.running import FOUR_TRANSPORTS, RunningSuite, is_gone, running, started, wait_until

pytestmark = pytest.mark.usefixtures("measured")

BEGAN = datetime(2026, 11, 27, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), FOUR_TRANSPORTS) as suite:
        yield suite


def histogram(*microseconds: int) -> Histogram:
    found = Histogram()
    found.record([each * 1000 for each in microseconds])
    return found


def stats(address: str, *microseconds: int, **counts: Any) -> AddressStats:
    return AddressStats(
        address, histogram=histogram(*microseconds), in_time=len(microseconds), opened=1, **counts
    )


# What each of them does.


@given(st.floats(0.1, 1000), st.floats(0.1, 1000), st.floats(0.1, 5), st.floats(0, 2), st.integers(1, 9))
def test_together_they_send_what_one_would(
    start: float, end: float, duration: float, warmup: float, parts: int
) -> None:
    whole = Schedule(Rate(start, end), duration, warmup)
    shares = [Schedule(Rate(start, end), duration, warmup, Part(number, parts)) for number in range(parts)]
    assert sum(share.total for share in shares) == whole.total
    assert sum(share.warm for share in shares) == whole.warm
    due = sorted(share.due(number) for share in shares for number in range(share.total))
    assert due == [whole.due(number) for number in range(whole.total)]
    for elapsed in (0, whole.lead, whole.lead + int(duration * 5e8), whole.lead + int(duration * 2e9)):
        assert sum(share.due_by(elapsed) for share in shares) == whole.due_by(elapsed)


@given(st.integers(1, 1000), st.integers(1, 50))
def test_together_they_have_the_connections_that_one_would(total: int, parts: int) -> None:
    found = [index for number in range(parts) for index in Part(number, parts).connections(total)]
    assert found == [*range(total)]


# What they have measured.


def test_a_percentile_of_all_is_that_of_all_messages() -> None:
    """Not the mean of percentiles: one worker has the fast ones."""
    fast = Figures([stats("a:1", *[10] * 90)], BEGAN, 2.0, due=90, busy=0.2, lag=5_000)
    slow = Figures(
        [stats("a:1", *[1000] * 10), stats("b:1", 7, connections=1)],
        BEGAN,
        2.1,
        due=12,
        unanswered=1,
        busy=0.9,
    )
    result = make_result(Options(TARGET, rate=Rate(50, 50), workers=2), merged([fast, slow]))
    assert (result.due, result.messages, result.unanswered) == (102, 101, 1)
    assert result.latency == histogram(*[10] * 90, *[1000] * 10, 7)
    assert [(each.address, each.messages, each.p50, each.p99) for each in result.addresses] == [
        ("a:1", 100, 10, 1000),
        ("b:1", 1, 7, 7),
    ]
    assert result.rate == pytest.approx(101 / 2.1)
    assert (result.busy, result.lag, result.started) == (0.9, 5, "2026-11-27T01:00:00.000Z")


def test_what_happened_at_the_same_time_is_one_row() -> None:
    first = [Interval(0.0, 1.0, histogram(1, 2), 1), Interval(1.0, 1.0, histogram(3), 0)]
    second = [Interval(0.0, 1.1, histogram(9), 2)]
    result = make_result(
        Options(TARGET),
        merged([Figures([], BEGAN, 2, intervals=first), Figures([], BEGAN, 2, intervals=second)]),
    )
    assert [row.values for row in result.over_time] == [[0, 1.1, 3, 3, 2, 9, 9], [1, 1, 1, 0, 3, 3, 3]]


def test_errors_of_all_count_also_of_one_that_has_no_connection() -> None:
    well, broken = stats("a:1", 5), AddressStats("a:1")
    broken.add_errors("refused", 3, "Connection refused")
    result = make_result(Options(TARGET), merged([Figures([well], BEGAN, 1, due=1), Figures([broken])]))
    assert (result.messages, result.errors, result.ok) == (1, {"refused": 3}, False)
    assert result.examples == {"refused": "Connection refused"}
    nothing = make_result(Options(TARGET), merged([Figures([broken]), Figures([broken])]))
    assert (nothing.started, nothing.rate, nothing.errors) == (None, None, {"refused": 6})


def test_what_one_without_a_connection_should_have_sent_is_due() -> None:
    """50 messages in 2 s, every second of them a worker's, one of which has never had a connection."""
    unsent = Schedule(Rate(25, 25), 2, 1, Part(1, 2))
    broken = AddressStats("a:1")
    well = Figures([stats("a:1", *[5] * 25)], BEGAN, 2, due=25)
    whole = merged([well, Figures([broken], unsent=unsent)])
    assert (whole.due, whole.unanswered, whole.oldest) == (50, 25, 2)
    result = make_result(Options(TARGET, rate=Rate(25, 25), duration=2, workers=2), whole)
    assert (result.due, result.messages, result.unanswered, result.ok) == (50, 25, 25, False)
    # Interrupted after 1 s, and in the warm-up.
    early = Figures([stats("a:1", *[5] * 13)], BEGAN, 1, interrupted=True, due=13)
    assert merged([early, Figures([broken], unsent=unsent)]).due == 13 + 13
    nothing = Figures([AddressStats("a:1")], BEGAN, interrupted=True)
    assert merged([nothing, Figures([broken], unsent=unsent)]).due == 0
    # In a closed loop, nothing is due where nothing can be sent.
    assert merged([well, Figures([broken])]).due == 25


def test_an_address_that_one_could_use_counts() -> None:
    unused, used = AddressStats("[::1]:1", excused=True), AddressStats("[::1]:1")
    unused.add_errors("refused", 1, "Connection refused")
    assert merged([Figures([unused]), Figures([unused])]).stats[0].excused
    assert not merged([Figures([unused]), Figures([used])]).stats[0].excused


def test_the_target_is_dead_when_it_is_dead_for_all() -> None:
    alive, dead = Figures([], BEGAN, 2), Figures([], BEGAN, 2, dead_after=0.5)
    assert merged([alive, dead]).dead_after is None
    assert merged([dead, Figures([], BEGAN, 2, dead_after=1.5)]).dead_after == 1.5


# As users run it.


@pytest.mark.parametrize("endpoint", ["tcp", "udp", "tls", "unix"])
def test_every_message_is_in_the_figures(suite: RunningSuite, endpoint: str) -> None:
    ca = ("--ca", "certs/ca.pem") if endpoint == "tls" else ()
    found = load(
        suite.directory,
        target_of(suite, endpoint),
        *("--workers", "3", "--connections", "7", "--rate", "400", "--duration", "500ms", *ca),
    )
    assert (found["connections"], found["due"], found["messages"]) == (7, 200, 200)
    assert latencies_of(found).total == 200
    assert sum(row[2] for row in found["over_time"]["rows"]) == 200
    assert (found["errors"], found["unanswered"], found["options"]["workers"]) == ({}, 0, 3)


def test_a_closed_loop_from_as_many_as_there_are_cores(suite: RunningSuite) -> None:
    found = load(
        suite.directory,
        target_of(suite, "tcp"),
        *("--workers", "auto", "--duration", "300ms", "--hlog", "auto.hlog"),
    )
    assert found["options"]["workers"] == min(10, len(os.sched_getaffinity(0)))
    assert found["messages"] == found["due"] > 0
    lines = (suite.directory / "auto.hlog").read_text().splitlines()
    logged = [Histogram.decode(line.split(",")[3]) for line in lines if not line.startswith(("#", '"'))]
    assert sum(each.total for each in logged) == found["messages"]


def test_a_target_that_refuses(tmp_path: Path) -> None:
    found = load(tmp_path, "tcp:127.0.0.1:1", "--workers", "2", code=1)
    assert (found["started"], found["messages"], set(found["errors"])) == (None, 0, {"refused"})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--workers", "0"], r"--workers '0' is out of range; expected 1 to 256"),
        (["--workers", "x"], r"--workers 'x' is not a number; expected 1 to 256"),
        (["--workers", "11"], r"--workers 11: more than --connections 10, .*; expected 10 at most"),
    ],
)
def test_numbers_that_cannot_be(options: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["load", "tcp:127.0.0.1:1", *options]) == 2
    assert re.fullmatch(rf"{problem}\n", capsys.readouterr().err)


# How they end.


def children(pid: int) -> list[int]:
    """The processes that *pid* has started."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has ended meanwhile
            _, _, fields = Path(f"/proc/{name}/stat").read_text().rpartition(") ")
            if fields.split()[1] == str(pid):
                found.append(int(name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_they_tell_what_was_measured(suite: RunningSuite, number: signal.Signals) -> None:
    options = ("--workers", "2", "--duration", "60m", "--rate", "500", "--json")
    with started(suite.directory, "load", target_of(suite, "tcp"), *options) as process:
        wait_until(lambda: len(children(process.pid)) == 2, "its workers")
        workers = children(process.pid)
        process.send_signal(number)  # perhaps before they have begun
        output = process.communicate()[0]
    assert process.returncode in (0, 1)
    found = json.loads(output)
    assert found["interrupted"] is True
    assert found["messages"] == (found["due"] or 0) - (found["unanswered"] or 0)
    assert all(map(is_gone, workers))


def test_one_that_dies_ends_the_load_with_an_error(suite: RunningSuite) -> None:
    options = ("--workers", "2", "--duration", "60m", "--rate", "10", "--json")
    says = "a worker of this load has been killed by signal 9; what it has measured is lost\n"
    with started(suite.directory, "load", target_of(suite, "tcp"), *options, says=says) as process:
        wait_until(lambda: len(children(process.pid)) == 2, "its workers")
        workers = children(process.pid)
        os.kill(workers[0], signal.SIGKILL)
        output = process.communicate()[0]
    assert (process.returncode, output) == (1, b"")
    assert all(map(is_gone, workers))


def test_one_that_dies_before_the_first_message_is_told_of_like_any_other() -> None:
    dead, its_own = Pipe()
    last, other = Pipe()
    its_own.close()
    ended = SimpleNamespace(join=lambda: None, exitcode=-9)
    workers = Workers(lambda _: None, None)
    workers._workers = {dead: ended, last: SimpleNamespace()}
    workers._opened = {dead}
    other.send(Opened())
    workers._hear(last)
    assert other.recv() is Word.BEGIN
    with pytest.raises(WorkerError, match="killed by signal 9"):
        workers._hear(dead)


def test_none_outlives_the_process_that_has_started_it(suite: RunningSuite) -> None:
    options = ("--workers", "2", "--duration", "60m", "--rate", "10", "--json")
    with started(suite.directory, "load", target_of(suite, "tcp"), *options) as process:
        wait_until(lambda: len(children(process.pid)) == 2, "its workers")
        workers = children(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: all(map(is_gone, workers)), "their end")
