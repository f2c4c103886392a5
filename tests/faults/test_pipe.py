"""One direction of a connection under faults, without clock or socket."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config.faults import Fault, Kind, Span
from suite.faults.draw import Draws
from suite.faults.pipe import END, MOST_PIECES, Output, Pipe

# Not `st.builds(Span, …)`, which fills both fields now and then.
SIZES = st.integers(1, 300).map(lambda size: Span(size=size))
TIMES = st.floats(0, 3).map(lambda seconds: Span(seconds=seconds))

HARMLESS = st.lists(
    st.one_of(
        st.builds(
            Fault,
            st.just(Kind.LATENCY),
            st.floats(0, 3),
            direction=st.sampled_from(["down", "both"]),
            after=st.none() | SIZES | TIMES,
            lasts=st.none() | SIZES | TIMES,
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
            after=st.none() | SIZES | TIMES,
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
    pipe.change([], 0, 0.5)
    pipe.feed(b"new", 0.5)
    assert run(pipe, 0.5) == [(1.0, b"old"), (1.0, b"new")]


def test_a_change_opens_a_stall() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.STALL)])
    pipe.feed(b"hola", 0.0)
    assert run(pipe, 0.0) == []
    pipe.change([], 0, 1.0)
    assert joined(run(pipe, 1.0)) == b"hola"


# Windows.


@pytest.mark.parametrize("kind", [Kind.LATENCY, Kind.STALL])
def test_a_fault_for_a_while_begins_with_the_connection(kind: Kind) -> None:
    """Not with its first byte."""
    fault = Fault(kind, 1.0, lasts=Span(seconds=2.0))
    pipe = Pipe("down", 10.0, [fault])
    pipe.feed(b"early", 11.5)
    assert run(pipe, 11.5) == [(12.5 if kind is Kind.LATENCY else 12.0, b"early")]
    pipe = Pipe("down", 10.0, [fault])
    pipe.feed(b"late", 12.5)
    assert run(pipe, 12.5) == [(12.5, b"late")]


def test_a_fault_for_a_while_that_comes_later_begins_then() -> None:
    """And one that stays is not begun anew by a change of others."""
    early = Fault(Kind.LATENCY, 1.0, lasts=Span(seconds=2.0))
    late = Fault(Kind.LATENCY, 4.0, lasts=Span(seconds=2.0))
    pipe = Pipe("down", 0.0, [early])
    pipe.change([early, late], 0, 1.5)
    pipe.feed(b"a", 1.9)
    pipe.feed(b"b", 2.5)
    pipe.feed(b"c", 6.0)
    found = run(pipe, 6.0)
    assert joined(found) == b"abc"
    pipe = Pipe("down", 0.0, [early])
    pipe.change([early, late], 0, 1.5)
    pipe.feed(b"b", 2.5)
    assert run(pipe, 2.5) == [(6.5, b"b")]


def test_a_bandwidth_for_so_many_bytes() -> None:
    """Those before and behind them are as fast as the line."""
    slow = Fault(Kind.BANDWIDTH, 10, after=Span(size=100), lasts=Span(size=10))
    pipe = Pipe("down", 0.0, [slow])
    pipe.feed(bytes(200), 0.0)
    times = [time for time, count in accumulated(run(pipe, 0.0)) if count in (100, 110, 200)]
    assert times == [0.0, pytest.approx(1.0), pytest.approx(1.0)]


def test_a_stall_at_an_offset_for_a_while_counts_from_when_it_is_reached() -> None:
    pipe = Pipe("down", 0.0, [Fault(Kind.STALL, after=Span(size=2), lasts=Span(seconds=3.0))])
    pipe.feed(b"hola", 10.0)
    assert run(pipe, 10.0) == [(10.0, b"ho"), (13.0, b"la")]


# The same seed, and another.


@given(
    HARMLESS,
    st.lists(st.tuples(st.binary(min_size=1, max_size=400), st.floats(0, 1)), max_size=5),
    st.integers(0, 2**32),
    st.sampled_from([None, Kind.CLOSE, Kind.RESET]),
)
def test_the_same_seed_gives_the_same_trace(
    faults: list[Fault], pieces: list[tuple[bytes, float]], seed: int, cut: Kind | None
) -> None:
    faults = [*faults, Fault(Kind.CORRUPT, 0.3)]
    if cut is not None:
        faults.append(Fault(cut, after=Span(size=500)))
    traces = []
    for _ in range(2):
        pipe, now = Pipe("down", 0.0, faults, seed), 0.0
        trace: list[tuple[float, Output]] = []
        for data, pause in pieces:
            pipe.feed(data, now)
            now += pause
            trace += [(now, output) for output in pipe.take(now)]
        pipe.feed_end(now)
        traces.append(trace + run(pipe, now))
    assert traces[0] == traces[1]


def test_another_seed_corrupts_other_bytes() -> None:
    found = set()
    for seed in range(4):
        pipe = Pipe("down", 0.0, [Fault(Kind.CORRUPT, 0.1)], seed)
        pipe.feed(bytes(500), 0.0)
        found.add(joined(run(pipe, 0.0)))
    assert len(found) == 4


def test_corruption_that_comes_late_does_not_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a gibibyte it begins at once: nothing is drawn for what has passed, or was swallowed."""
    drawn = 0

    def fraction(draws: Draws) -> float:
        nonlocal drawn
        drawn += 1
        return (draws.integer() >> 11) * 2.0**-53

    monkeypatch.setattr(Draws, "fraction", fraction)
    pipe = Pipe("down", 0.0)
    chunk = bytes(2**20)
    for _ in range(2**10):
        pipe.feed(chunk, 0.0)
        pipe.take(0.0)
    pipe.change([Fault(Kind.CORRUPT, 0.5)], 0, 1.0)
    pipe.feed(bytes(100), 1.0)
    assert any(joined(run(pipe, 1.0)))
    assert drawn < 200


def test_corruption_that_stays_goes_on_where_it_was() -> None:
    faults = [Fault(Kind.CORRUPT, 0.5)]
    one, other = Pipe("down", 0.0, faults, 3), Pipe("down", 0.0, faults, 3)
    for pipe in (one, other):
        pipe.feed(bytes(100), 0.0)
        if pipe is one:
            pipe.change([Fault(Kind.LATENCY, 1.0), *faults], 3, 0.0)
        pipe.feed(bytes(100), 0.0)
    assert joined(run(one, 0.0)) == joined(run(other, 0.0))


# Cost.


def test_a_byte_at_a_time_costs_the_same_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is held: 256 KiB in slices of 1 byte, behind a latency, move no other bytes."""
    copied = 0

    def count(data: memoryview) -> bytes:
        nonlocal copied
        copied += len(data)
        return data.tobytes()

    monkeypatch.setattr("suite.faults.pipe.bytes", count, raising=False)
    pipe = Pipe("down", 0.0, [Fault(Kind.LATENCY, 5.0), Fault(Kind.SLICE, 1)])
    pipe.feed(b"x" * 2**18, 0.0)
    assert pipe.held == 2**18
    found = run(pipe, 5.0)
    assert len(found) == copied == 2**18


@pytest.mark.parametrize("rate", [2**20, 2**30])
def test_a_fast_line_takes_large_pieces(rate: int) -> None:
    """So that a timer fires every few milliseconds at the most."""
    pipe = Pipe("down", 0.0, [Fault(Kind.BANDWIDTH, rate)])
    for _ in range(16):
        pipe.feed(bytes(2**14), 0.0)
    whole = [time for time, _ in run(pipe, 0.0)]
    assert len(whole) <= 2 * 16 + 2**18 / rate / 0.01


def test_a_gap_does_not_outlast_its_fault() -> None:
    """As toxiproxy's bandwidth did, whose removal had to wait for a sleep in progress (its issue 210)."""
    for fault in (Fault(Kind.SLICE, 1, gap=3600.0), Fault(Kind.BANDWIDTH, 1)):
        pipe = Pipe("down", 0.0, [fault])
        pipe.feed(bytes(10_000), 0.0)
        pipe.take(1.0)
        pipe.change([], 0, 2.0)
        pipe.feed_end(2.0)
        found = run(pipe, 2.0)
        assert {time for time, _ in found} == {2.0}
        assert found[-1][1] is END


def test_a_gap_is_kept_if_its_fault_is() -> None:
    fault = Fault(Kind.SLICE, 1, gap=3600.0)
    pipe = Pipe("down", 0.0, [fault])
    pipe.feed(bytes(2), 0.0)
    pipe.take(1.0)
    pipe.change([Fault(Kind.LATENCY, 1.0), fault], 0, 2.0)
    assert run(pipe, 2.0) == [(3600.0, b"\0")]


def test_a_cut_by_the_clock_strikes_in_the_middle_of_traffic() -> None:
    cut = Fault(Kind.RESET, after=Span(seconds=1.0))
    pipe, now = Pipe("down", 0.0, [cut]), 0.0
    found: list[tuple[float, Output]] = []
    while now < 2.0:
        pipe.feed(b"x", now)
        found += [(now, output) for output in pipe.take(now)]
        now += 0.125
    assert found[-1] == (1.0, cut)
    assert joined(found) == b"x" * 8
