"""Monotonic time, on every reactor, whatever has been scheduled before."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.testing import MemoryReactorClock

from suite.engine.clock import use_monotonic_clock


class StubReactor(ReactorBase):
    """A reactor that only keeps time: Twisted's own way of scheduling, and nothing to wait for."""

    def installWaker(self) -> None:
        pass

    def _initThreads(self) -> None:
        pass


def test_what_is_scheduled_already_keeps_its_delay_and_its_place() -> None:
    reactor: Any = StubReactor()
    ran: list[int] = []
    calls = [reactor.callLater(delay, ran.append, delay) for delay in (3000, 0, 1000, 2000)]
    reactor.runUntilCurrent()  # into the heap
    calls[2].cancel()  # but it stays in the heap
    calls.append(reactor.callLater(500, ran.append, 500))  # not in the heap yet
    use_monotonic_clock(reactor)
    assert reactor.seconds is time.monotonic
    assert ran == [0]
    left = [calls[place].getTime() - time.monotonic() for place in (4, 3, 0)]
    assert left == pytest.approx([500, 2000, 3000], abs=60)
    assert reactor.timeout() == pytest.approx(500, abs=60)
    calls[4].reset(0)
    calls[3].reset(0)
    reactor.runUntilCurrent()
    assert ran == [0, 500, 2000]


def test_a_second_time_changes_nothing() -> None:
    reactor: Any = StubReactor()
    use_monotonic_clock(reactor)
    call = reactor.callLater(1000, lambda: None)
    due = call.getTime()
    use_monotonic_clock(reactor)
    assert call.getTime() == due


def test_a_reactor_in_memory_keeps_its_own_clock() -> None:
    reactor = MemoryReactorClock()
    use_monotonic_clock(reactor)
    reactor.advance(7)
    assert reactor.seconds() == 7
