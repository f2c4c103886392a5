"""The state that the connections of a load share, and the base class of those connections."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.defer import Deferred

from suite.client.dial.failures import TargetError

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
    :ivar interval: nanoseconds between two messages on all connections together; 0: a closed loop, in which
        each answer makes room for the next message.
    :ivar timeout: nanoseconds after which an unanswered datagram counts as lost.
    :ivar ended: called when a connection has failed.
    :ivar latencies: the latencies of answered messages in nanoseconds; emptied by the reader.
    :ivar wrong: the errors of datagrams that came back changed; emptied by the reader.
    :ivar lost: datagrams that did not come back in time.
    :ivar late: lost datagrams that came back later.
    :ivar pattern: random bytes that repeat every `PERIOD` bytes; messages are slices of it.
    """

    reactor: Any
    size: int
    window: int
    interval: float
    timeout: int
    ended: Callable[[TargetError], None]
    latencies: list[int] = field(default_factory=list)
    wrong: list[TargetError] = field(default_factory=list)
    lost: int = 0
    late: int = 0
    pattern: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        longest = max(self.size, CHUNK)
        self.pattern = os.urandom(PERIOD) * (1 + -(-longest // PERIOD))


class LoadConnection(ABC):
    """One connection of a load.

    :param index: the number of the connection, from 0.
    :ivar open: whether the connection can be used.
    :ivar waiting: messages that are due but not yet begun.
    :ivar paused: whether the send buffer is full.
    :ivar closed: fires when the connection is closed.
    """

    open = False
    paused = False

    def __init__(self, traffic: Traffic, index: int) -> None:
        self._traffic = traffic
        self._index = index
        self._latencies = traffic.latencies
        self._pattern = traffic.pattern
        self._size = traffic.size
        self._window = traffic.window
        self._paced = traffic.interval > 0
        self._first_due, self._step = 0, 0.0
        self._steady = not self._paced  # a closed loop: an answer makes room for the next message
        self._begun = 0
        self.waiting = 0
        self.closed: Deferred[None] = Deferred()

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

    def wind_down(self) -> None:
        """Begin no more messages than are due: in a closed loop, none."""
        if not self._paced:
            self._steady = False
            self.waiting = 0

    def add(self, count: int, now: int) -> None:
        """*count* more messages are due."""
        self.waiting += count
        if not self.paused:
            self.pump(now)

    def _answered(self, count: int, now: int) -> None:
        """*count* messages are no longer in flight, which makes room for others."""
        if self._steady:
            self.waiting += count
        if self.waiting and not self.paused:
            self.pump(now)

    def schedule(self, begin: int, turn: int, stride: int) -> None:
        """Set when this connection's messages are due: message *turn*, from 0, of every *stride* messages.

        :param begin: when the first message of the load is due, by `time.monotonic_ns`.
        """
        interval = self._traffic.interval
        self._first_due = begin + int(turn * interval)
        self._step = stride * interval
