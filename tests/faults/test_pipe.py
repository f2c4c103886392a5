"""One direction of a connection under faults, without clock or socket."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.config.faults import Fault, Kind, Span
from suite.faults.pipe import END, MOST_PIECES, Output, Pipe

SIZES = st.builds(lambda size: Span(size=size), st.integers(1, 300))
TIMES = st.builds(lambda seconds: Span(seconds=seconds), st.floats(0, 3))

HARMLESS = st.lists(
    st.one_of(
        st.builds(
            Fault,
            st.just(Kind.LATENCY),
            st.floats(0, 3),
            direction=st.sampled_from(["down", "both"]),
            after=st.none()
            | st.builds(Span, size=st.integers(0, 300))
            | st.builds(Span, seconds=st.floats(0, 3)),
            lasts=st.none()
            | st.builds(Span, size=st.integers(1, 300))
            | st.builds(Span, seconds=st.floats(0, 3)),
        ),
        st.builds(
            Fault,
            st.just(Kind.BANDWIDTH),
            st.integers(1, 10_000),
            after=st.none() | SIZES,
            lasts=st.none() | SIZES,
        ),
        st.builds(Fault, st.just(Kind.SLICE), st.integers(1, 100), gap=st.floats(0, 0.5)),
        st.builds(
            Fault,
            st.just(Kind.STALL),
            after=st.none()
            | st.builds(Span, size=st.integers(0, 300))
            | st.builds(Span, seconds=st.floats(0, 3)),
            lasts=TIMES,
        ),
    ),
    max_size=4,
)


def run(pipe: Pipe, now: float, limit: int = 1_000_000) -> list[tuple[float, Output]]:
    """What comes out of *pipe* if everybody waits for it, and when."""
    found: list[tuple[float, Output]] = []
    for _ in range(limit):
        found += [(now, output) for output in pipe.take(now)]
        due = pipe.due(now)
        if due is None:
            return found
        now = max(now, due)
    pytest.fail("it never comes to rest")


def joined(found: list[tuple[float, Output]]) -> bytes:
    return b"".join(output for _, output in found if isinstance(output, bytes))


@settings(deadline=None)
@given(
    HARMLESS,
    st.lists(st.tuples(st.binary(min_size=1, max_size=400), st.floats(0, 1)), max_size=8),
    st.integers(0, 2**32),
)
def test_identity(faults: list[Fault], pieces: list[tuple[bytes, float]], seed: int) -> None:
    """No fault that only delays or divides changes, reorders or loses a byte, however bytes and time pass."""
    pipe = Pipe("down", 100.0, faults, seed)
    now, found = 100.0, []
    for data, pause in pieces:
        pipe.feed(data, now)
        found += [(now, output) for output in pipe.take(now)]
        now += pause
    pipe.feed_end(now)
    found += run(pipe, now)
    assert joined(found) == b"".join(data for data, _ in pieces)
    assert [output for _, output in found if not isinstance(output, bytes)] == [END]
    assert found[-1][1] is END
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(found))
    assert (pipe.held, pipe.discarded, pipe.finished) == (0, 0, True)


@settings(deadline=None)
@given(
    st.integers(0, 5000),
    st.lists(st.integers(1, 2000), max_size=8),
    st.sampled_from([Kind.CLOSE, Kind.HALF_CLOSE, Kind.RESET]),
)
def test_a_cut_is_at_its_offset(offset: int, sizes: list[int], kind: Kind) -> None:
    """However the bytes come: those before the offset come out, then the cut, and nothing else."""
    cut = Fault(kind, after=Span(size=offset))
    pipe = Pipe("down", 0.0, [cut, Fault(Kind.SLICE, 7)])
    data = random.Random(1).randbytes(sum(sizes))
    found, at = run(pipe, 1.0), 0
    for size in sizes:
        pipe.feed(data[at : at + size], 1.0)
        at += size
        found += run(pipe, 1.0)
    assert joined(found) == data[:offset]
    reached = [output for _, output in found if not isinstance(output, bytes)]
    assert reached == ([cut] if len(data) >= offset else [])
    assert pipe.finished is bool(reached)


def test_a_limit_cuts_like_a_close() -> None:
    limit = Fault(Kind.LIMIT, 3)
    pipe = Pipe("down", 0.0, [limit])
    pipe.feed(b"hola", 0.0)
    assert [output for _, output in run(pipe, 0.0)] == [b"hol", limit]


def test_the_first_cut_wins() -> None:
    first, second = Fault(Kind.RESET, after=Span(size=2)), Fault(Kind.CLOSE, after=Span(size=3))
    pipe = Pipe("down", 0.0, [second, first])
    pipe.feed(b"hola", 0.0)
    assert [output for _, output in run(pipe, 0.0)] == [b"ho", first]


def test_a_cut_by_the_clock_needs_no_bytes() -> None:
    """It is counted from when the connection was accepted, and what is held then is lost."""
    cut = Fault(Kind.RESET, after=Span(seconds=2.0))
    pipe = Pipe("down", 10.0, [Fault(Kind.LATENCY, 5.0), cut])
    pipe.feed(b"hola", 11.0)
    assert pipe.due(11.0) == 12.0
    assert pipe.take(11.9) == []
    assert pipe.take(12.0) == [cut]
    assert pipe.discarded == 4


def test_latencies_add_up() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.LATENCY, 0.5), Fault(Kind.LATENCY, 0.25)])
    pipe.feed(b"a", 1.0)
    pipe.feed(b"b", 1.5)
    pipe.feed_end(1.5)
    assert run(pipe, 1.5) == [(1.75, b"a"), (2.25, b"b"), (2.25, END)]


def test_a_latency_for_a_while_overtakes_nothing() -> None:
    """The bytes behind the slow ones wait for them, as in a queue."""
    pipe = Pipe("down", 0.0, [Fault(Kind.LATENCY, 1.0, lasts=Span(size=2))])
    pipe.feed(b"hola", 0.0)
    assert run(pipe, 0.0) == [(1.0, b"ho"), (1.0, b"la")]


@pytest.mark.parametrize("rate", [1, 7, 1000, 65_536, 2**30])
def test_bandwidth_is_exact_over_time(rate: int) -> None:
    """The last of some seconds' worth of bytes comes out after just these seconds, at any rate."""
    pipe = Pipe("down", 0.0, [Fault(Kind.BANDWIDTH, rate)])
    size = min(3 * rate, 200_000)
    pipe.feed(bytes(size), 5.0)
    found = run(pipe, 5.0)
    assert found[-1][0] == pytest.approx(5.0 + size / rate)
    for time, sofar in accumulated(found):
        assert sofar <= (time - 5.0) * rate + 1e-6 * rate + 1


def accumulated(found: list[tuple[float, Output]]) -> list[tuple[float, int]]:
    total, sums = 0, []
    for time, output in found:
        total += len(output) if isinstance(output, bytes) else 0
        sums.append((time, total))
    return sums


def test_the_lowest_bandwidth_holds() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.BANDWIDTH, 1000), Fault(Kind.BANDWIDTH, 100)])
    pipe.feed(bytes(300), 0.0)
    assert run(pipe, 0.0)[-1][0] == pytest.approx(3.0)


def test_a_pause_of_the_reader_is_not_made_up_for() -> None:
    """While nobody can take anything, the line is not used; afterwards it is no faster."""
    pipe = Pipe("down", 0.0, [Fault(Kind.BANDWIDTH, 100)])
    pipe.feed(bytes(100), 0.0)
    pipe.catch_up(10.0)
    assert run(pipe, 10.0)[-1][0] == pytest.approx(11.0)


def test_slices_have_their_size_and_their_gap() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.SLICE, 2, gap=0.5)])
    pipe.feed(b"hello", 0.0)
    pipe.feed_end(0.0)
    assert run(pipe, 0.0) == [(0.0, b"he"), (0.5, b"ll"), (1.0, b"o"), (1.5, END)]


def test_a_turn_is_bounded() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.SLICE, 1)])
    pipe.feed(bytes(1000), 0.0)
    assert len(pipe.take(0.0)) == MOST_PIECES
    assert pipe.due(0.0) == 0.0


def test_a_stall_keeps_what_comes() -> None:
    """Nothing more comes out, not even the end, and nothing is due."""
    pipe = Pipe("down", 0.0, [Fault(Kind.STALL, after=Span(size=2))])
    pipe.feed(b"hola", 0.0)
    pipe.feed_end(0.0)
    assert run(pipe, 0.0) == [(0.0, b"ho")]
    assert (pipe.held, pipe.due(1000.0)) == (2, None)


def test_a_stall_for_a_while() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.STALL, after=Span(seconds=1.0), lasts=Span(seconds=2.0))])
    pipe.feed(b"a", 0.5)
    assert run(pipe, 0.5) == [(0.5, b"a")]
    pipe.feed(b"b", 1.5)
    assert run(pipe, 1.5) == [(3.0, b"b")]


def test_a_blackhole_swallows_what_comes_up() -> None:
    pipe = Pipe("up", 0.0, [Fault(Kind.BLACKHOLE, after=Span(size=2), lasts=Span(size=3))])
    pipe.feed(b"0123456", 0.0)
    assert joined(run(pipe, 0.0)) == b"0156"
    assert pipe.discarded == 3


def test_a_blackhole_swallows_the_end() -> None:
    pipe = Pipe("up", 0.0, [Fault(Kind.BLACKHOLE)])
    pipe.feed_end(0.0)
    assert (run(pipe, 0.0), pipe.swallows(0.0)) == ([], True)


@pytest.mark.parametrize(
    ("direction", "ours"), [("down", "down"), ("up", "up"), ("both", "up"), ("both", "down")]
)
def test_each_direction_only(direction: str, ours: str) -> None:
    faults = [Fault(Kind.LATENCY, 1.0, direction=direction)]
    theirs = {"down": "up", "up": "down"}[ours]
    for here in (ours, theirs):
        pipe = Pipe(here, 0.0, faults)
        pipe.feed(b"x", 0.0)
        assert run(pipe, 0.0) == [(1.0 if direction in (here, "both") else 0.0, b"x")]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8), st.integers(0, 2**32))
def test_corruption_does_not_depend_on_how_bytes_come(sizes: list[int], seed: int) -> None:
    faults = [Fault(Kind.CORRUPT, 0.01)]
    whole, pieces = Pipe("down", 0.0, faults, seed), Pipe("down", 0.0, faults, seed)
    data = bytes(sum(sizes))
    whole.feed(data, 0.0)
    for size in sizes:
        pieces.feed(bytes(size), 0.0)
    assert joined(run(whole, 0.0)) == joined(run(pieces, 0.0))


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 1.0])
def test_the_share_of_corrupt_bytes(share: float) -> None:
    """Every struck byte differs from what it was; how many are struck is within four standard deviations."""
    size = 200_000
    pipe = Pipe("down", 0.0, [Fault(Kind.CORRUPT, share)], seed=3)
    pipe.feed(bytes(size), 0.0)
    struck = sum(byte != 0 for byte in joined(run(pipe, 0.0)))
    assert abs(struck - size * share) <= 4 * (size * share * (1 - share)) ** 0.5


def test_corruption_in_a_window() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.CORRUPT, 1.0, after=Span(size=2), lasts=Span(size=2))])
    pipe.feed(bytes(6), 0.0)
    assert [byte != 0 for byte in joined(run(pipe, 0.0))] == [False, False, True, True, False, False]


def test_a_change_keeps_the_delay_of_what_is_inside() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.LATENCY, 1.0)])
    pipe.feed(b"old", 0.0)
    pipe.change([])
    pipe.feed(b"new", 0.5)
    assert run(pipe, 0.5) == [(1.0, b"old"), (1.0, b"new")]


def test_a_change_opens_a_stall() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.STALL)])
    pipe.feed(b"hola", 0.0)
    assert run(pipe, 0.0) == []
    pipe.change([])
    assert joined(run(pipe, 1.0)) == b"hola"
