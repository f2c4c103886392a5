"""What is counted at one address of a target.

Rules: everything that was due is in one of `histogram` (answered), `lost`, `changed` and `failed`, or is
still pending; messages of a warm-up are in none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from suite.client.dial.failures import TargetError
from suite.client.histogram import Histogram
from suite.client.load.schedule import WARM_LATENCY


@dataclass(frozen=True)
class Unanswered:
    """Messages that have no answer.

    :ivar count: how many there are.
    :ivar overdue: how many of them have waited too long.
    :ivar oldest: when the oldest was due, by `time.monotonic_ns`; None if there is none.
    """

    count: int = 0
    overdue: int = 0
    oldest: int | None = None

    def __add__(self, other: Unanswered) -> Unanswered:
        oldest = [each.oldest for each in (self, other) if each.oldest is not None]
        return Unanswered(
            self.count + other.count, self.overdue + other.overdue, min(oldest) if oldest else None
        )


@dataclass
class AddressStats:
    """The figures of one address.

    :ivar address: as text.
    :ivar connections: connections opened at the start.
    :ivar opened: all connections opened, those that replaced others included.
    :ivar excused: whether it could not be used, and another family of the same name could: no error then.
    :ivar latencies: the latencies of answered messages in nanoseconds, until `count` has counted them.
    :ivar warm: answered messages of the warm-up.
    :ivar wrong: errors of datagrams that came back changed, until they are noted.
    :ivar lost: datagrams that did not come back in time.
    :ivar oldest_lost: when the first of those was due.
    :ivar late: lost datagrams that came back later.
    :ivar changed: datagrams of which only something else came back.
    :ivar failed: messages in flight on connections that broke.
    :ivar in_time: messages answered before the end of sending.
    :ivar errors: errors by word, and `examples`: the details of the first of each.
    """

    address: str
    connections: int = 0
    opened: int = 0
    excused: bool = False
    latencies: list[int] = field(default_factory=list)
    warm: int = 0
    wrong: list[TargetError] = field(default_factory=list)
    lost: int = 0
    oldest_lost: int | None = None
    late: int = 0
    changed: int = 0
    failed: Unanswered = Unanswered()
    in_time: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    histogram: Histogram = field(default_factory=Histogram)

    def note(self, error: TargetError) -> None:
        """Count *error*."""
        self.add_errors(error.word, 1, error.detail)

    def add_errors(self, word: str, count: int, detail: str) -> None:
        """Count *count* errors of one kind."""
        self.errors[word] += count
        self.examples.setdefault(word, detail)

    def lose(self, due: int) -> None:
        """A datagram that was due then has not come back in time."""
        self.lost += 1
        self.oldest_lost = due if self.oldest_lost is None else min(due, self.oldest_lost)

    @property
    def given_up(self) -> Unanswered:
        """Messages for which no answer is expected any more."""
        return self.failed + Unanswered(self.lost + self.changed, 0, self.oldest_lost)

    def forget(self) -> None:
        """What has been counted so far was a warm-up; its errors stay."""
        self.warm += self.histogram.total
        self.histogram = Histogram()
        self.lost = self.late = self.changed = 0
        self.oldest_lost = None
        self.failed = Unanswered()

    def count(self, others: Iterable[Histogram], *, warmup: bool) -> None:
        """Count the latencies since the last call, also into *others*.

        :param warmup: whether there may be messages of a warm-up among them.
        """
        fresh = self.latencies
        if warmup:
            fresh = [latency for latency in fresh if latency < WARM_LATENCY]
            self.warm += len(self.latencies) - len(fresh)
        if fresh:
            counts = Histogram.counts_of(fresh)
            self.histogram.add(counts)
            for other in others:
                other.add(counts)
        self.latencies.clear()
        for error in self.wrong:
            self.note(error)
        self.wrong.clear()


def merged_stats(found: Iterable[Sequence[AddressStats]]) -> list[AddressStats]:
    """What several processes have counted, each at its addresses, when all is over.

    An address that one of them could use is not excused.
    """
    merged: dict[str, AddressStats] = {}
    for each in (stats for process in found for stats in process):
        whole = merged.setdefault(each.address, AddressStats(each.address, excused=True))
        whole.excused = whole.excused and each.excused
        whole.connections += each.connections
        whole.opened += each.opened
        whole.lost += each.lost
        whole.late += each.late
        whole.in_time += each.in_time
        whole.histogram.merge(each.histogram)
        for word, count in each.errors.items():
            whole.add_errors(word, count, each.examples[word])
    return [*merged.values()]
