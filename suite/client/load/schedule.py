"""When the messages of an open loop are due.

Rules: nothing here knows what time it is; times are nanoseconds since the load began; a message of the
warm-up is sent like any other and left out of the figures.

Messages of the warm-up have the due time `WARM`, so long ago that their latencies are beyond `WARM_LATENCY`.
They are recognized when latencies are counted, and cost nothing where latencies are measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

NANO: Final = 1_000_000_000

#: The due time of messages that are not measured.
WARM: Final = -(2**62)

#: Latencies from here on are those of messages that are not measured.
WARM_LATENCY: Final = 2**61

#: The shortest tick in nanoseconds. At higher rates, several messages are due at each tick.
SHORTEST_TICK: Final = 20_000

#: The longest tick in nanoseconds where messages are not due at equal intervals, and so not at ticks.
LONGEST_UNEVEN_TICK: Final = 1_000_000


@dataclass(frozen=True)
class Rate:
    """Messages per second on all connections together, changing evenly from *start* to *end*."""

    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.start:,g}" if self.start == self.end else f"{self.start:,g} to {self.end:,g}"

    @property
    def as_json(self) -> Any:
        """A number, or for a ramp a list of two."""
        return self.start if self.start == self.end else [self.start, self.end]


class Part(NamedTuple):
    """A part of a load: every *parts*-th message, from number *number* on, and a share of the connections."""

    number: int
    parts: int

    def of(self, total: int) -> int:
        """How many of the first *total* messages are in this part."""
        return max(0, -((self.number - total) // self.parts))

    def connections(self, total: int) -> range:
        """The indices of its connections, of *total*."""
        return range(total * self.number // self.parts, total * (self.number + 1) // self.parts)


#: A load in one part.
WHOLE: Final = Part(0, 1)


class Schedule:
    """The messages of an open loop, numbered from 0.

    :param rate: of the whole load.
    :param duration: seconds that are measured.
    :param warmup: seconds before that, at the rate of the start.
    :param part: which of the messages of the whole load are in this schedule.
    :ivar warm: the number of messages in the warm-up.
    :ivar lead: when the first measured message is due.
    :ivar total: the number of messages, those of the warm-up included.
    """

    def __init__(self, rate: Rate, duration: float, warmup: float = 0.0, part: Part = WHOLE) -> None:
        self._part = part
        self._interval = NANO / rate.start
        self._start = rate.start / NANO
        self._bend = (rate.end - rate.start) / (2 * duration) / NANO**2
        self._even = rate.start == rate.end
        self._least_interval = NANO / max(rate.start, rate.end)
        self._warm = math.ceil(warmup * rate.start)
        self._total = self._warm + max(1, int(duration * (rate.start + rate.end) / 2))
        self.lead = int(self._warm * self._interval)
        self.warm = part.of(self._warm)
        self.total = part.of(self._total)

    @property
    def tick(self) -> int:
        """How often to look for what is due, in nanoseconds."""
        longest = self._least_interval if self._even else min(self._least_interval, LONGEST_UNEVEN_TICK)
        return max(int(longest * self._part.parts), SHORTEST_TICK)

    def due(self, number: int) -> int:
        """When message *number* is due."""
        return self._due(self._part.number + number * self._part.parts)

    def due_by(self, elapsed: int) -> int:
        """How many messages are due when *elapsed* nanoseconds have passed."""
        return self._part.of(self._due_by(elapsed))

    def measured(self, seconds: float | None = None) -> int:
        """How many measured messages are due: all, or those of *seconds* from the first of the whole load."""
        if seconds is None:
            return self.total - self.warm
        return self.due_by(self.lead + int(seconds * NANO)) - self.warm if seconds > 0 else 0

    # Of the whole load.

    def _due(self, number: int) -> int:
        if self._even or number <= self._warm:
            return int(number * self._interval)
        # start * t + bend * t² = n, solved so that nothing cancels out when bend is small or negative.
        count = number - self._warm
        root = math.sqrt(max(0.0, self._start**2 + 4 * self._bend * count))
        return self.lead + int(2 * count / (self._start + root))

    def _due_by(self, elapsed: int) -> int:
        if self._even or elapsed < self.lead:
            count = int(elapsed / self._interval)
        else:
            t = elapsed - self.lead
            if self._bend < 0:  # after its vertex the parabola would fall again
                t = min(t, int(-self._start / (2 * self._bend)))
            count = self._warm + int(self._start * t + self._bend * t * t)
        # Rounding may be off by one: `due` decides.
        while count > 0 and self._due(count) > elapsed:
            count -= 1
        while self._due(count + 1) <= elapsed and count < self._total:
            count += 1
        return min(count + 1, self._total)
