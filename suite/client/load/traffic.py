"""What the connections of a load share, and what each of them does."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.defer import Deferred

from suite.client.dial.failures import TargetError

#: Bytes that are handed over for sending in one call.
CHUNK: Final = 256 * 1024


#: A prime: however long messages are, 65,537 of a connection in a row begin at different places.
PERIOD: Final = 65_537


#: How far apart the places are at which connections begin; a prime as well.
APART: Final = 7_919


#: What `Traffic.window` is without one.
NO_WINDOW: Final = 2**62


@dataclass
class Traffic:
    """What the connections of a load share.

    :ivar size: of a message, in bytes.
    :ivar window: how many messages of a connection may be on the way.
    :ivar interval: nanoseconds between two messages of all connections together; 0: each answer makes room
        for the next message, at once.
    :ivar timeout: after how many nanoseconds a datagram is lost.
    :ivar ended: told when a connection has failed.
    :ivar latencies: of the messages answered, in nanoseconds, since this was last emptied.
    :ivar wrong: what was wrong with datagrams that came back changed, since this was last emptied.
    :ivar lost: datagrams that did not come back in time.
    :ivar late: those of them that came back after all.
    :ivar pattern: random bytes that repeat after `PERIOD`; whatever is sent or expected is one slice of it.
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
    """One connection.

    :param index: which one this is, from 0.
    :ivar open: whether it can be used.
    :ivar waiting: messages that are due and not yet begun.
    :ivar paused: whether there is no room to send.
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
        self._steady = not self._paced  # an answer makes room for the next message
        self._begun = 0
        self.waiting = 0
        self.closed: Deferred[None] = Deferred()

    @property
    @abstractmethod
    def unanswered(self) -> int:
        """Messages that are due and have not come back."""

    @abstractmethod
    def pump(self, now: int) -> None:
        """Send what is due, as far as the window and the kernel allow."""

    @abstractmethod
    def close(self) -> None:
        """Close it; `closed` fires when that is done."""

    @abstractmethod
    def expire(self, now: int) -> None:
        """Give up what has been on the way for too long, where that can be told."""

    def wind_down(self) -> None:
        """Begin nothing that nobody waits for: in a closed loop, no message at all."""
        if not self._paced:
            self._steady = False
            self.waiting = 0

    def add(self, count: int, now: int) -> None:
        """*count* more messages are due."""
        self.waiting += count
        if not self.paused:
            self.pump(now)

    def _answered(self, count: int, now: int) -> None:
        """*count* messages are off the road, which makes room for others."""
        if self._steady:
            self.waiting += count
        if self.waiting and not self.paused:
            self.pump(now)

    def schedule(self, begin: int, turn: int, stride: int) -> None:
        """When this connection's messages are due: it has the *turn* th, from 0, of every *stride* messages.

        :param begin: when the first message of all connections is due, as `time.monotonic_ns` counts.
        """
        interval = self._traffic.interval
        self._first_due = begin + int(turn * interval)
        self._step = stride * interval
