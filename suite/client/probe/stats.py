"""What came of a number of probes: counts, and the times of those that came back.

Rules: plain arithmetic, without a clock of its own; times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the *ordered* values that *percent* of them do not exceed ("nearest rank").

    :param ordered: one value at least, the smallest first.
    :param percent: above 0, up to 100.
    """
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Times:
    """Of a number of times, in seconds: the shortest, the middle one, the 99th percentile, the longest."""

    minimum: float
    median: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Times:
        """Those of *times*, one at least, in any order."""
        ordered = sorted(times)
        return cls(ordered[0], median(ordered), percentile(ordered, 99), ordered[-1])


@dataclass
class ProbeStats:
    """Counts as they grow.

    :ivar sent: probes begun.
    :ivar times: how long each that came back took.
    :ivar late: datagrams that came back when they were given up for lost.
    :ivar duplicates: datagrams that came back once more.
    """

    sent: int = 0
    times: list[float] = field(default_factory=list)
    late: int = 0
    duplicates: int = 0

    @property
    def received(self) -> int:
        """Probes that came back in time, every byte of them."""
        return len(self.times)

    @property
    def loss(self) -> float:
        """Which part of the probes did not come back, 0 to 1; 0 if there were none."""
        return (self.sent - self.received) / self.sent if self.sent else 0.0

    def summary(self) -> Times | None:
        """How long they took; None if none came back."""
        return Times.of(self.times) if self.times else None
