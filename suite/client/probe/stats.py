"""Statistics of probes: counts and round-trip times.

Rules: no clock; times are in seconds; memory is bounded, however long a probe runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from suite.client.histogram import Histogram

#: How many times are kept exactly; beyond that, median and percentiles come from a histogram.
MAX_EXACT: Final = 10_000


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the *ordered* values that *percent* of them do not exceed ("nearest rank").

    :param ordered: at least one value, in ascending order.
    :param percent: above 0, up to 100.
    """
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Times:
    """Minimum, median, 99th percentile and maximum of some times, in seconds."""

    minimum: float
    median: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Times:
        """The values for *times*: at least one, in any order."""
        ordered = sorted(times)
        return cls(ordered[0], median(ordered), percentile(ordered, 99), ordered[-1])


class ProbeStats:
    """The counts and times of the probes so far.

    :ivar sent: probes sent.
    :ivar received: probes that came back completely and in time.
    :ivar late: datagrams that came back after they had been counted as lost.
    :ivar duplicates: datagrams that came back again.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.late = 0
        self.duplicates = 0
        self._exact: list[float] = []
        self._histogram = Histogram()  # in use when there are more than `MAX_EXACT`
        self._minimum = math.inf
        self._maximum = 0.0
        self._total = 0.0

    def record(self, seconds: float) -> None:
        """Count a probe that came back after *seconds*."""
        self.received += 1
        self._minimum = min(self._minimum, seconds)
        self._maximum = max(self._maximum, seconds)
        self._total += seconds
        if self.received <= MAX_EXACT:
            self._exact.append(seconds)
            return
        self._histogram.record([round(1e9 * value) for value in (*self._exact, seconds)])
        self._exact.clear()

    @property
    def loss(self) -> float | None:
        """The fraction of probes that did not come back, 0 to 1; None without probes."""
        return (self.sent - self.received) / self.sent if self.sent else None

    @property
    def total(self) -> float:
        """The sum of all times."""
        return self._total

    def summary(self) -> Times | None:
        """A summary of the times; None if no probe came back.

        Of more than `MAX_EXACT` times, median and percentile are exact to three digits.
        """
        if not self.received:
            return None
        if self._exact:
            return Times.of(self._exact)
        middle, high = (value / 1e6 for value in self._histogram.percentiles([50, 99]))
        return Times(self._minimum, middle, high, self._maximum)
