"""How late a reactor is."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.task import Clock
from typing_extensions import override

from suite.admin.lag import BUCKETS, REMEMBERED, SAMPLES, Histogram, Lag, percentiles

INTERVAL = 1 / SAMPLES


class TurningClock(Clock):
    """Calls in one turn what was due when it began, as a reactor does, and nothing besides."""

    @override
    def advance(self, amount: float) -> None:
        self.rightNow += amount
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


def test_a_histogram_counts_each_duration_in_every_bucket_that_it_fits() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 7.0):
        histogram.add(seconds)
    found = dict(histogram.cumulative())
    assert found[0.0005] == 1
    assert found[0.001] == 2  # bounds are inclusive, as Prometheus's are
    assert found[0.002] == 3
    assert found[BUCKETS[-1]] == 3
    assert found[float("inf")] == 4
    assert histogram.sum == pytest.approx(7.0021)
    assert all(before <= after for before, after in pairwise(found.values()))


def test_percentiles_are_values_that_were_there() -> None:
    assert percentiles([]) is None
    assert percentiles([3.0]) == (3.0, 3.0, 3.0)
    assert percentiles([n / 100 for n in range(100, 0, -1)]) == (0.5, 0.99, 1.0)


def test_a_punctual_reactor() -> None:
    clock = TurningClock()
    lag = Lag(clock)
    assert lag.recent is None
    lag.start()
    lag.start()  # again changes nothing
    assert len(clock.calls) == 1
    for _ in range(5):
        clock.advance(INTERVAL)
        clock.advance(0)
    assert lag.recent == pytest.approx((0, 0, 0), abs=1e-9)
    assert dict(lag.late.cumulative())[float("inf")] == 5
    assert dict(lag.turns.cumulative())[0.0005] == 5


def test_a_late_timer_and_a_long_turn() -> None:
    clock = TurningClock()
    lag = Lag(clock)
    lag.start()
    clock.advance(INTERVAL + 0.3)
    clock.advance(0.7)  # until the next turn
    assert lag.recent == pytest.approx((0.3, 0.3, 0.3))
    assert lag.turns.sum == pytest.approx(0.7)
    clock.advance(INTERVAL)
    assert lag.recent == pytest.approx((0, 0.3, 0.3))


def test_only_a_minute_is_remembered() -> None:
    clock = TurningClock()
    lag = Lag(clock)
    lag.start()
    clock.advance(INTERVAL + 5)
    clock.advance(0)
    for _ in range(SAMPLES * REMEMBERED):
        clock.advance(INTERVAL)
        clock.advance(0)
    assert lag.recent is not None
    assert lag.recent.max == pytest.approx(0, abs=1e-9)
    assert dict(lag.late.cumulative())[5.0] == SAMPLES * REMEMBERED + 1


@pytest.mark.parametrize("advances", [[], [INTERVAL], [INTERVAL, 0]])
def test_nothing_is_left_after_the_end(advances: list[float]) -> None:
    clock = TurningClock()
    lag = Lag(clock)
    lag.start()
    for seconds in advances:
        clock.advance(seconds)
    lag.stop()
    lag.stop()
    assert not clock.calls
