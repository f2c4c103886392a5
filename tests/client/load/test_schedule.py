"""When messages are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client.load.schedule import LONGEST_UNEVEN_TICK, NANO, SHORTEST_TICK, Rate, Schedule

RATES = st.floats(0.1, 100_000)


def test_an_even_rate() -> None:
    schedule = Schedule(Rate(300, 300), 2)
    assert schedule.total == 600
    assert [schedule.due(number) for number in (0, 3, 300)] == [0, NANO // 100, NANO]
    assert [schedule.due_by(elapsed) for elapsed in (0, NANO // 100, NANO, 5 * NANO)] == [1, 4, 301, 600]
    assert schedule.tick == 3_333_333


def test_a_ramp_passes_through_its_middle_rate_in_the_middle() -> None:
    schedule = Schedule(Rate(1000, 3000), 2)
    assert schedule.total == 4000
    assert schedule.due_by(NANO) == 1501, "1,000 to 2,000 in the first second, and message 0"
    in_the_middle = schedule.due_by(NANO + NANO // 100) - schedule.due_by(NANO)
    assert in_the_middle == pytest.approx(20, abs=1)


def test_a_warm_up_has_the_rate_of_the_start() -> None:
    schedule = Schedule(Rate(100, 500), 1, warmup=0.5)
    assert (schedule.warm, schedule.lead, schedule.total) == (50, NANO // 2, 350)
    assert schedule.due(49) == 49 * NANO // 100
    assert schedule.due(50) == schedule.lead
    assert schedule.due(51) - schedule.due(50) == pytest.approx(NANO / 100, rel=0.05)


@given(RATES, RATES, st.floats(0.01, 100), st.floats(0, 10), st.floats(0, 1))
def test_what_is_due_by_a_time_is_due_then(
    start: float, end: float, duration: float, warmup: float, share: float
) -> None:
    """`due_by` and `due` agree, whatever is rounded; and all is due within the duration."""
    schedule = Schedule(Rate(start, end), duration, warmup)
    number = int(share * (schedule.total - 1))
    due = schedule.due(number)
    assert schedule.due_by(due) >= number + 1
    if due:
        assert schedule.due_by(due - 1) <= number + (schedule.due(number - 1) == due if number else 0)
    last = schedule.due(schedule.total - 1)
    assert schedule.due_by(last) == schedule.total
    assert last <= schedule.lead + duration * NANO + 1


@pytest.mark.parametrize(
    ("rate", "tick"),
    [
        (Rate(1, 1), NANO),
        (Rate(20_000, 20_000), 50_000),
        (Rate(1e6, 1e6), SHORTEST_TICK),
        (Rate(1, 2), LONGEST_UNEVEN_TICK),
        (Rate(20_000, 1), 50_000),
    ],
    ids=str,
)
def test_ticks(rate: Rate, tick: int) -> None:
    """A tick for each message; where they are not evenly spaced, one each millisecond at least."""
    assert Schedule(rate, 1).tick == tick
