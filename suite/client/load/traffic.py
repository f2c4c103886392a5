"""The state that the connections of a load share, and the base class of those connections."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any, Final

from twisted.internet.defer import Deferred

from suite.client.dial.failures import TargetError
from suite.client.load.schedule import WARM, Schedule
from suite.client.load.stats import AddressStats, Unanswered

#: The most bytes passed to the transport in one write.
CHUNK: Final = 256 * 1024

#: The period of the pattern. It is prime, so that 65,537 consecutive messages on a connection begin at
#: different offsets, unless their size is a multiple of it.
PERIOD: Final = 65_537

#: The distance between the offsets at which connections begin; also prime.
APART: Final = 7_919

#: The value of `Traffic.window` that means no limit.
NO_WINDOW: Final = 2**62


@dataclass
class Traffic:
    """The state that the connections of a load share.

    :ivar size: the size of a message in bytes.
    :ivar window: the most messages in flight on a connection.
    :ivar schedule: when messages are due; None: a closed loop, in which each answer makes room for the next
        message.
    :ivar timeout: nanoseconds after which an unanswered datagram counts as lost.
    :ivar ended: called when a connection has failed.
    :ivar clock: the time in nanoseconds, as `time.monotonic_ns` has it.
    :ivar pattern: random bytes that repeat every `PERIOD` bytes; messages are slices of it.
    """

    reactor: Any
    size: int
    window: int
    schedule: Schedule | None
    timeout: int
    ended: Callable[[LoadConnection, TargetError], None]
    clock: Callable[[], int] = monotonic_ns
    pattern: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        longest = max(self.size, CHUNK)
        self.pattern = os.urandom(PERIOD) * (1 + -(-longest // PERIOD))


class LoadConnection(ABC):
    """One connection of a load.

    In an open loop, a broken connection still collects what is due on it, for the one that replaces it or for
    the figures.

    :param stats: the figures of its address.
    :param index: the number of the connection, from 0.
    :ivar open: whether the connection can be used.
    :ivar waiting: messages that are due but not yet begun.
    :ivar paused: whether the send buffer is full.
    :ivar answered_any: whether an answer has arrived.
    :ivar closed: fires when the connection is closed.
    """

    open = False
    paused = False

    def __init__(self, traffic: Traffic, stats: AddressStats, index: int) -> None:
        self.stats = stats
        self.index = index
        self._traffic = traffic
        self._clock = traffic.clock
        self._latencies = stats.latencies
        self._pattern = traffic.pattern
        self._size = traffic.size
        self._window = traffic.window
        self._paced = traffic.schedule is not None
        self._begin, self._turn, self._stride = 0, 0, 1
        self._steady = not self._paced  # a closed loop: an answer makes room for the next message
        self._begun = 0
        self.waiting = 0
        self.closed: Deferred[None] = Deferred()

    @property
    @abstractmethod
    def answered_any(self) -> bool:
        """Whether an answer has arrived."""

    @property
    @abstractmethod
    def unanswered(self) -> int:
        """Messages that are due but have not come back."""

    @abstractmethod
    def pump(self, now: int) -> None:
        """Send messages that are due, as far as the window and the send buffer allow."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; `closed` fires when that is done."""

    @abstractmethod
    def expire(self, now: int) -> None:
        """Give up messages that have been in flight for too long, where they can be identified."""

    @abstractmethod
    def _dues(self) -> Iterable[int]:
        """When each message in flight was due."""

    @abstractmethod
    def begin_measuring(self) -> None:
        """The warm-up of a closed loop is over: messages in flight, and lost ones, belong to it."""

    @abstractmethod
    def _forget(self) -> None:
        """No message is in flight any more."""

    def wind_down(self) -> None:
        """Begin no more messages than are due: in a closed loop, none."""
        if not self._paced:
            self._steady = False
            self.waiting = 0

    def add(self, count: int, now: int) -> None:
        """*count* more messages are due."""
        self.waiting += count
        if self.open and not self.paused:
            self.pump(now)

    def _answered(self, count: int, now: int) -> None:
        """*count* messages are no longer in flight, which makes room for others."""
        if self._steady:
            self.waiting += count
        if self.waiting and not self.paused:
            self.pump(now)

    def schedule(self, begin: int, turn: int, stride: int) -> None:
        """Set when this connection's messages are due: message *turn*, from 0, of every *stride* messages.

        :param begin: when the first message of the load is due, by the clock.
        """
        self._begin, self._turn, self._stride = begin, turn, stride

    def _due(self, number: int) -> int:
        """When message *number* of this connection is due; `WARM` if it is not measured."""
        schedule = self._traffic.schedule
        assert schedule is not None  # noqa: S101  # for mypy: asked in an open loop only
        overall = self._turn + number * self._stride
        return self._begin + schedule.due(overall) if overall >= schedule.warm else WARM

    def take_over(self, broken: LoadConnection, now: int) -> None:
        """Send from now on what is due on *broken*, and what has been due on it meanwhile."""
        self._begin, self._turn, self._stride = broken._begin, broken._turn, broken._stride
        self._begun = broken._begun
        waiting, broken.waiting = broken.waiting, 0
        self.add(waiting if self._paced else self._window, now)

    def pending(self, before: int) -> Unanswered:
        """The measured messages that are waiting or in flight; those due *before* are overdue."""
        found = self._in_flight_count(before)
        if self._paced and self.waiting:
            after = self._begun + self.waiting
            first = max(self._begun, self._first_measured())
            if first < after:
                overdue = bisect_left(range(first, after), before, key=self._due)
                found += Unanswered(after - first, overdue, self._due(first))
        return found

    def give_up(self) -> None:
        """The connection is broken: messages in flight on it will not be answered."""
        self.stats.failed += self._in_flight_count(0)
        self._forget()
        if not self._paced:
            self.waiting = 0

    def _in_flight_count(self, before: int) -> Unanswered:
        dues = [due for due in self._dues() if due != WARM]
        return Unanswered(len(dues), sum(due < before for due in dues), min(dues, default=None))

    def _first_measured(self) -> int:
        """The first message of this connection that is measured."""
        schedule = self._traffic.schedule
        warm = 0 if schedule is None else schedule.warm
        return max(0, -(-(warm - self._turn) // self._stride))
