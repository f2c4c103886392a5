"""Statistics of probes: counts and round-trip times.

Rules: pure arithmetic, no clock; times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


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


@dataclass
class ProbeStats:
    """The counts and times of the probes so far.

    :ivar sent: probes sent.
    :ivar times: the round-trip time of each probe that came back.
    :ivar late: datagrams that came back after they had been counted as lost.
    :ivar duplicates: datagrams that came back again.
    """

    sent: int = 0
    times: list[float] = field(default_factory=list)
    late: int = 0
    duplicates: int = 0

    @property
    def received(self) -> int:
        """Probes that came back completely and in time."""
        return len(self.times)

    @property
    def loss(self) -> float:
        """The fraction of probes that did not come back, 0 to 1; 0 without probes."""
        return (self.sent - self.received) / self.sent if self.sent else 0.0

    def summary(self) -> Times | None:
        """A summary of the times; None if no probe came back."""
        return Times.of(self.times) if self.times else None
