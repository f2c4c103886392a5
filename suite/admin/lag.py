"""How late the reactor is: what everything that waits for its turn has to wait.

Rules: it is measured by the reactor's own timers, `SAMPLES` times a second, while somebody may want to know;
time is the reactor's, which is monotonic. A timer that comes late by a whole interval or more has been
overtaken: the next one is due an interval after it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Measurements in a second.
SAMPLES: Final = 10

#: Seconds that percentiles are about.
REMEMBERED: Final = 60

#: Upper bounds of the buckets of a histogram, in seconds. An idle reactor on epoll is late by up to one
#: millisecond, to which epoll_wait(2) rounds.
BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Histogram:
    """Durations, by how long they were.

    :ivar sum: seconds of all of them.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def __add__(self, other: Self) -> Self:
        found = type(self)()
        found._counts = [one + another for one, another in zip(self._counts, other._counts, strict=True)]
        found.sum = self.sum + other.sum
        return found

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """For each upper bound, infinity the last, how many were no longer."""
        total = 0
        for bound, count in zip((*BUCKETS, float("inf")), self._counts, strict=True):
            total += count
            yield bound, total


class Percentiles(NamedTuple):
    """What half, all but one in a hundred, and all of some durations were no longer than, in seconds."""

    p50: float
    p99: float
    max: float


def percentiles(durations: Sequence[float]) -> Percentiles | None:
    """The percentiles of *durations*, by nearest rank; None if there are none."""
    if not durations:
        return None
    ordered = sorted(durations)
    return Percentiles(*(ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 99, 100)))


class Lag:
    """Measures a reactor, from `start` to `stop`.

    :param clock: the reactor.
    :ivar late: how much later than asked for a timer came.
    :ivar turns: how long the turn after that took, waiting for events excluded, because something is due.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.late = Histogram()
        self.turns = Histogram()
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=SAMPLES * REMEMBERED)
        self._due = 0.0
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to measure."""
        if self._next is None:
            self._recent.clear()
            self._wait(self._clock.seconds())

    def stop(self) -> None:
        """Measure no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    @property
    def recent(self) -> Percentiles | None:
        """How late timers came in the last minute; None before the first has."""
        return percentiles(self._recent)

    def _wait(self, now: float) -> None:
        delay = 1 / SAMPLES
        self._due = now + delay
        self._next = self._clock.callLater(delay, self._came)

    def _came(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)
        self.late.add(late)
        self._recent.append(late)
        self._next = self._clock.callLater(0, self._turned, now)

    def _turned(self, began: float) -> None:
        now = self._clock.seconds()
        self.turns.add(now - began)
        self._wait(now)
