"""`suite.faults.line`: when datagrams leave, and in which order."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, cast

from twisted.internet.task import Clock

from suite.engine.datagram import Reply
from suite.faults import line as line_module
from suite.faults.line import LONGEST_WAIT, OVERHEAD, SENT_PER_TURN, Line
from suite.faults.packets import Verdict


class LineFixture:
    """A line, and what has left it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.line = Line(self.clock)
        self.sent: list[tuple[float, bytes]] = []

    def put(self, data: bytes, source: str = "a", **verdict: Any) -> int:
        return self.line.put(data, Verdict(1)._replace(**verdict), source, self._send)

    def _send(self, data: bytes) -> None:
        self.sent.append((round(self.clock.seconds(), 6), data))

    def after(self, seconds: float) -> list[bytes]:
        """What leaves in the next *seconds*, looked at every millisecond."""
        before = len(self.sent)
        for _ in range(round(seconds * 1000)):
            self.clock.advance(0.001)
        return [data for _, data in self.sent[before:]]

    @property
    def idle(self) -> bool:
        return not (self.line.waiting or self.line.held or self.clock.getDelayedCalls())


def test_what_is_not_delayed_leaves_at_once() -> None:
    fixture = LineFixture()
    fixture.put(b"one")
    fixture.put(b"two", duplicated=True)
    assert fixture.sent == [(0, b"one"), (0, b"two"), (0, b"two")]
    assert fixture.idle


def test_a_delay_is_never_shorter_and_keeps_the_order_if_it_is_constant() -> None:
    fixture = LineFixture()
    for number in range(200):
        fixture.put(b"%d" % number, delay=0.25)
    assert fixture.after(0.249) == []
    assert len(fixture.clock.getDelayedCalls()) == 1
    assert fixture.after(0.01) == [b"%d" % number for number in range(200)]
    assert fixture.idle


def test_jitter_reorders() -> None:
    fixture = LineFixture()
    for delay in (0.3, 0.1, 0.2):
        fixture.put(b"%g" % delay, delay=delay)
    fixture.after(0.4)
    assert fixture.sent == [(0.1, b"0.1"), (0.2, b"0.2"), (0.3, b"0.3")]


def test_a_turn_sends_a_bounded_number() -> None:
    fixture = LineFixture()
    for _ in range(SENT_PER_TURN + 1):
        fixture.put(b"", delay=1.0)
    in_between: list[int] = []
    fixture.clock.callLater(1.0, lambda: in_between.append(len(fixture.sent)))
    fixture.clock.advance(1.0)
    assert in_between == [SENT_PER_TURN]
    assert len(fixture.sent) == SENT_PER_TURN + 1
    assert fixture.idle


# Reordering.


def test_the_next_one_overtakes() -> None:
    fixture = LineFixture()
    fixture.put(b"1", reordered=True)
    assert fixture.sent == []
    fixture.put(b"2")
    assert [data for _, data in fixture.sent] == [b"2", b"1"]
    assert fixture.after(LONGEST_WAIT + 0.01) == []
    assert fixture.idle


def test_another_source_does_not_overtake() -> None:
    fixture = LineFixture()
    fixture.put(b"1", "a", reordered=True)
    fixture.put(b"2", "b")
    assert [data for _, data in fixture.sent] == [b"2"]
    fixture.put(b"3", "a")
    assert [data for _, data in fixture.sent] == [b"2", b"3", b"1"]


def test_without_a_next_one_it_waits_so_long() -> None:
    fixture = LineFixture()
    fixture.put(b"1", reordered=True, duplicated=True)
    assert fixture.after(LONGEST_WAIT - 0.001) == []
    assert fixture.after(0.002) == [b"1", b"1"]
    assert fixture.idle


def test_where_all_are_to_be_overtaken_neighbours_change_places() -> None:
    """They do not wait for each other without end."""
    fixture = LineFixture()
    for number in range(1, 6):
        fixture.put(b"%d" % number, reordered=True)
    assert [data for _, data in fixture.sent] == [b"2", b"1", b"4", b"3"]
    assert fixture.after(LONGEST_WAIT + 0.001) == [b"5"]
    assert fixture.idle


def test_what_is_overtaken_is_then_delayed() -> None:
    fixture = LineFixture()
    fixture.put(b"1", reordered=True, delay=0.2)
    fixture.after(0.05)
    fixture.put(b"2", delay=0.2)
    fixture.after(0.3)
    assert fixture.sent == [(0.25, b"2"), (0.25, b"1")]
    assert fixture.idle


def test_what_was_overtaken_is_not_kept() -> None:
    """The time that it would have waited for is still to come, but its bytes are gone."""
    fixture = LineFixture()
    for _ in range(10):
        fixture.put(bytes(1000), reordered=True)
        fixture.put(b"")
    assert (fixture.line.waiting, fixture.line.held) == (0, 0)
    assert not any(step.args[1] for _, _, step in fixture.line._due)  # type: ignore[attr-defined]  # a partial


# Rates.


def test_a_rate() -> None:
    """Each leaves when it is through, and so are those before it."""
    fixture = LineFixture()
    for _ in range(3):
        fixture.put(bytes(100), rate=1000)
    fixture.after(0.15)
    fixture.put(b"", rate=1000)
    fixture.after(0.5)
    assert [time for time, _ in fixture.sent] == [0.1, 0.2, 0.3, 0.3]
    fixture.put(bytes(10), rate=100)
    fixture.after(0.2)
    assert fixture.sent[-1][0] == 0.75
    assert fixture.idle


def test_two_copies_take_twice_the_time() -> None:
    fixture = LineFixture()
    fixture.put(bytes(100), rate=1000, duplicated=True)
    fixture.after(0.3)
    assert [time for time, _ in fixture.sent] == [0.1, 0.2]


def test_a_delay_comes_before_the_rate() -> None:
    """What is late does not hold up the line for what is not."""
    fixture = LineFixture()
    fixture.put(b"late", rate=1000, delay=0.5)
    fixture.put(bytes(100), rate=1000)
    fixture.after(0.6)
    assert [time for time, _ in fixture.sent] == [0.1, 0.504]


def test_a_late_timer_does_not_slow_the_line_down() -> None:
    fixture = LineFixture()
    for _ in range(4):
        fixture.put(bytes(100), rate=1000)
    fixture.clock.advance(0.35)
    assert len(fixture.sent) == 3
    fixture.clock.advance(0.1)
    assert len(fixture.sent) == 4


def test_a_late_timer_does_not_slow_down_what_was_delayed() -> None:
    """It has entered the line when it was due, not when that was noticed."""
    fixture = LineFixture()
    for _ in range(2):
        fixture.put(bytes(100), rate=1000, delay=0.1)
    fixture.clock.advance(0.35)
    assert len(fixture.sent) == 2


# Room.


def test_what_finds_no_room_is_lost() -> None:
    fixture = LineFixture()
    room = line_module.MOST_HELD // (1000 + OVERHEAD)
    assert [fixture.put(bytes(1000), delay=1.0) for _ in range(room)] == [0] * room
    assert fixture.put(bytes(1000), delay=1.0) == 1
    assert fixture.put(bytes(1000), delay=1.0, duplicated=True) == 2
    assert fixture.put(bytes(1000), rate=1) == 1
    assert fixture.put(bytes(1000), "b", reordered=True, duplicated=True) == 2
    assert fixture.put(bytes(1000)) == 0  # it need not wait
    assert fixture.line.held <= line_module.MOST_HELD
    assert len(fixture.after(1.1)) == room
    assert fixture.idle


def test_what_has_room_keeps_it_from_one_wait_to_the_next() -> None:
    fixture = LineFixture()
    fixture.put(b"first", reordered=True, delay=0.1, rate=1000)
    while not fixture.put(bytes(60_000), "b", delay=0.3):
        pass
    fixture.after(LONGEST_WAIT + 0.11)
    assert fixture.sent == [(0.205, b"first")]


# The end.


def test_a_drain_waits_for_what_was_there() -> None:
    fixture = LineFixture()
    done: list[float] = []
    fixture.put(b"before", delay=0.2, rate=100)
    fixture.line.drain(5.0, lambda: done.append(round(fixture.clock.seconds(), 6)))
    fixture.put(b"meanwhile", delay=1.0)
    fixture.after(0.5)
    assert (done, fixture.sent) == ([0.26], [(0.26, b"before")])
    fixture.line.stop()
    assert fixture.idle


def test_a_drain_ends_in_time() -> None:
    fixture = LineFixture()
    done: list[float] = []
    fixture.put(b"before", delay=10.0)
    fixture.line.drain(0.5, lambda: done.append(round(fixture.clock.seconds(), 6)))
    fixture.after(0.6)
    assert done == [0.5]
    fixture.line.stop()
    assert done == [0.5]
    assert fixture.idle


def test_a_drain_without_anything_is_over_at_once() -> None:
    fixture = LineFixture()
    done: list[bool] = []
    fixture.line.drain(5.0, lambda: done.append(True))
    fixture.put(b"late", delay=1.0)
    fixture.line.drain(0.0, lambda: done.append(True))
    assert done == [True, True]


def test_stopping_drops_what_waits_and_ends_a_drain() -> None:
    fixture = LineFixture()
    done: list[bool] = []
    fixture.put(b"1", reordered=True)
    fixture.put(b"2", delay=1.0)
    fixture.put(b"3", rate=1)
    fixture.line.drain(5.0, lambda: done.append(True))
    fixture.line.stop()
    assert (done, fixture.idle) == ([True], True)
    assert fixture.after(6) == []
    fixture.put(b"4", delay=0.1)
    assert fixture.after(0.2) == [b"4"]


def test_the_bound_is_one_of_memory() -> None:
    """Whatever the size of the datagrams, with all that a port of ours keeps for each."""
    for size in (0, 1400):
        fixture = LineFixture()
        gc.collect()
        tracemalloc.start()
        try:
            room = True
            number = 0
            while room:
                number += 1
                address = (f"127.0.0.{number % 250}", 1000 + number)
                control = [(0, 8, bytes(bytearray(12)))]
                reply = Reply(cast(Any, None), cast(Any, None), address, control)
                data = bytes(bytearray(size))
                room = not fixture.line.put(data, Verdict(number, delay=1.0), address, reply.send)
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert used < line_module.MOST_HELD * 1.1
