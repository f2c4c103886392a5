"""`suite.logs.limit`: floods that are counted."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from suite.logs.limit import BURST, KINDS, TOTAL, WINDOW, RateLimit
from suite.logs.lines import json_line, text_line
from suite.reasons import Reason
from tests.logs.events import FULL, Hostile, event_of

#: Generated values are large here, and machines may be slow.
unhurried = settings(suppress_health_check=[HealthCheck.too_slow])


class Limited:
    """A `RateLimit` with its own clock.

    :ivar seen: the events that it has shown.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.seen: list[LogEvent] = []
        self.limit = RateLimit(self.clock, cast(Any, self.seen.append))

    def log(self, times: int = 1, said: str = "{what} failed", **more: Any) -> None:
        for _ in range(times):
            self.limit(event_of(said, **{"what": "it", **more}))

    def take(self) -> list[int | None]:
        """The counts shown since the last call; None stands for an event itself."""
        taken, self.seen[:] = self.seen[:], []
        return [event.get("suppressed") for event in taken]


def test_a_few_of_a_kind_are_shown_and_the_others_counted() -> None:
    limited = Limited()
    limited.log(BURST)
    assert limited.take() == [None] * BURST
    limited.log(3912)
    assert limited.take() == []
    limited.clock.advance(WINDOW)
    (summary,) = limited.seen
    assert text_line(summary)[25:] == "info it failed; suppressed 3,912 like it"
    assert json.loads(json_line(summary))["suppressed"] == 3912


def test_nothing_is_scheduled_while_nothing_happens() -> None:
    limited = Limited()
    assert limited.clock.getDelayedCalls() == []
    limited.log()
    assert len(limited.clock.getDelayedCalls()) == 1
    limited.clock.advance(WINDOW)
    assert limited.clock.getDelayedCalls() == []
    limited.log(1000)
    for _ in range(3):
        limited.clock.advance(WINDOW)
    assert limited.clock.getDelayedCalls() == []
    assert limited.take() == [None] * (1 + BURST) + [995]


def test_while_a_flood_goes_on_there_is_one_line_in_a_window() -> None:
    limited = Limited()
    for _ in range(3):
        limited.log(1000)
        limited.clock.advance(WINDOW)
    assert limited.take() == [None] * BURST + [995, 1000, 1000]
    limited.log(BURST)  # no longer a flood, but still one event more than allowed
    limited.clock.advance(WINDOW)
    assert limited.take() == [BURST]
    limited.log(BURST)
    assert limited.take() == [None] * BURST


def test_a_summary_is_of_the_kind_that_it_stands_for_and_of_no_one_connection() -> None:
    limited = Limited()
    for number in range(BURST + 2):
        limited.log(**{**FULL, "connection": number, "what": number})
    limited.clock.advance(WINDOW)
    entry = json.loads(json_line(limited.seen[-1]))
    assert entry.pop("time")
    assert entry == {
        "level": "info",
        "endpoint": "tcp",
        "reason": "stall",
        "suppressed": 2,
        "message": f"{BURST} failed; suppressed 2 like it",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"said": "another thing"},
        {"endpoint": "tls"},
        {"reason": Reason.IDLE},
        {"namespace": "suite.engine"},
        {"level": "warn"},
    ],
)
def test_one_kind_does_not_silence_another(other: dict[str, Any]) -> None:
    limited = Limited()
    limited.log(100)
    limited.take()
    limited.log(**other)
    assert limited.take() == [None]


def test_what_a_peer_decides_about_makes_no_kind() -> None:
    limited = Limited()
    for number in range(1000):
        limited.log(what=number, peer=f"192.0.2.1:{number}", connection=number, received=number, duration=1.5)
    limited.clock.advance(WINDOW)
    assert limited.take() == [None] * BURST + [1000 - BURST]


def test_all_kinds_together_have_a_limit_too() -> None:
    limited = Limited()
    for number in range(40):
        limited.log(10, endpoint=f"e{number}")
    assert limited.take() == [None] * TOTAL
    limited.clock.advance(WINDOW)
    assert limited.take() == [5] * 20 + [10] * 20
    # The summaries are lines of the next window.
    for number in range(40, 80):
        limited.log(10, endpoint=f"e{number}")
    assert limited.take() == [None] * (TOTAL - 40)


def test_a_quiet_while_gives_every_line_back() -> None:
    limited = Limited()
    for _ in range(2):
        for number in range(30):
            limited.log(BURST, endpoint=f"e{number}")
        limited.clock.advance(WINDOW)
        assert limited.take() == [None] * TOTAL + [BURST] * 10
        limited.clock.advance(WINDOW)
        assert limited.clock.getDelayedCalls() == []


def test_more_kinds_than_are_told_apart_have_a_summary_in_common() -> None:
    limited = Limited()
    for number in range(10_000):
        limited.log(2, endpoint=f"e{number}")
    assert len(limited.limit._counts) == KINDS + 1
    limited.clock.advance(WINDOW)
    summaries = [event for event in limited.seen if "suppressed" in event]
    assert len(limited.seen) - len(summaries) == TOTAL
    assert len(summaries) <= TOTAL
    assert TOTAL + sum(event["suppressed"] for event in summaries) == 20_000
    assert text_line(summaries[-1])[25:].startswith(
        "warn too many kinds of events to distinguish; suppressed 19,8"
    )


@pytest.mark.parametrize("reason", [["a list"], {"a": "table"}, Hostile()], ids=["list", "table", "hostile"])
def test_a_field_that_has_no_hash_makes_a_kind_too(reason: object) -> None:
    limited = Limited()
    limited.log(BURST + 2, reason=reason)
    limited.log(reason=["another"])
    limited.clock.advance(WINDOW)
    assert limited.take() == [None] * (BURST + 1) + [2]


def test_debug_events_are_shown_one_and_all() -> None:
    limited = Limited()
    limited.log(10 * TOTAL, level="debug")
    assert limited.take() == [None] * 10 * TOTAL
    limited.log(BURST)
    assert limited.take() == [None] * BURST


def test_events_that_ask_for_it_are_shown_one_and_all() -> None:
    limited = Limited()
    limited.log(10 * TOTAL, unlimited=True)
    assert limited.take() == [None] * 10 * TOTAL


def test_what_was_counted_is_said_at_the_end() -> None:
    limited = Limited()
    limited.log(100)
    limited.limit.flush()
    assert limited.take() == [None] * BURST + [95]
    assert limited.clock.getDelayedCalls() == []
    limited.log(BURST + 1)
    limited.clock.advance(WINDOW)
    assert limited.take() == [None] * BURST + [1], "and it goes on, should anyone go on to log"
    limited.limit.flush()
    assert limited.take() == []


@unhurried
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 30), st.sampled_from([0, 0, 0.3, 1, 2.5]))))
def test_what_is_shown_and_what_is_counted_add_up(steps: list[tuple[int, int, float]]) -> None:
    limited = Limited()
    for kind, times, pause in steps:
        limited.log(times, endpoint=f"e{kind}")
        limited.clock.advance(pause)
        assert len(limited.limit._counts) <= KINDS + 1
        assert limited.limit._lines <= TOTAL
    lines_at_end = len(limited.seen)
    limited.limit.flush()
    assert len(limited.seen) - lines_at_end <= TOTAL
    shown = [event for event in limited.seen if "suppressed" not in event]
    counted = sum(event["suppressed"] for event in limited.seen if "suppressed" in event)
    assert len(shown) + counted == sum(times for _, times, _ in steps)
    assert limited.limit.suppressed == counted
