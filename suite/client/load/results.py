"""The result of a load.

Rules: a number is true or it is None; what was not measured has no figures, and is never as good as what was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from suite.client.histogram import Histogram
from suite.client.load.figures import Figures
from suite.client.load.options import Options
from suite.client.load.series import Row, make_row
from suite.client.load.stats import AddressStats

PERCENTILES: Final = (50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999)


@dataclass(frozen=True)
class AddressResult:
    """The results at one address of a target.

    :ivar used: whether it counts: not if nothing could be reached in its family, but in another one.
    :ivar connections: connections opened at the start.
    :ivar messages: messages answered.
    :ivar rate: of these, messages per second within the time of the load; None: no connection.
    :ivar errors: errors by word.
    :ivar lost: datagrams that did not come back in time.
    :ivar p50: percentiles of its latencies in µs, and their maximum; None: nothing was answered.
    """

    address: str
    used: bool
    connections: int
    messages: int
    rate: float | None
    errors: Mapping[str, int]
    lost: int
    p50: int | None
    p99: int | None
    max: int | None


@dataclass(frozen=True)
class Result:
    """The results of a load.

    :ivar target: the target as the user wrote it.
    :ivar options: the parameters; see `Options.shown`.
    :ivar started: when the first measured message was due, in UTC (RFC 3339); None: nothing was sent.
    :ivar seconds: how long messages were due: as planned, or until the interruption; None: not at all.
    :ivar interrupted: whether the load was interrupted.
    :ivar connections: the number of connections opened at the start.
    :ivar due: the number of messages that were due; None: nothing was sent.
    :ivar messages: the number of messages answered with exactly the bytes that were sent.
    :ivar unanswered: *due* less *messages*.
    :ivar oldest: for how many seconds the oldest of them has been unanswered; None: there is none.
    :ivar rate: messages per second that were answered within *seconds*.
    :ivar dead_after: seconds after which no connection was left; None: there always was one, or might be.
    :ivar errors: errors by word; one for each broken connection, each failed attempt to open one, and each
        message that was unanswered for longer than the timeout.
    :ivar examples: the details of the first error of each word.
    :ivar lost: datagrams that did not come back in time.
    :ivar late: lost datagrams that came back later.
    :ivar latency: the latencies in microseconds.
    :ivar busy: the share of one CPU that the client used; None: nothing was sent.
    :ivar lag: the longest delay in microseconds with which the client sent a message that was due; None in a
        closed loop.
    :ivar stalled: the longest time in microseconds in which the client stood still, or had too much to do.
    :ivar addresses: the results at each address.
    :ivar over_time: the results in each interval.
    """

    target: str
    options: Mapping[str, Any]
    started: str | None
    seconds: float | None
    interrupted: bool
    connections: int
    due: int | None
    messages: int
    unanswered: int | None
    oldest: float | None
    rate: float | None
    dead_after: float | None
    errors: Mapping[str, int]
    examples: Mapping[str, str]
    lost: int
    late: int
    latency: Histogram
    busy: float | None
    lag: int | None
    stalled: int | None
    addresses: Sequence[AddressResult] = ()
    over_time: Sequence[Row] = ()

    @property
    def bytes(self) -> int:
        """The size of all answered messages, in bytes; as many were sent as received."""
        size: int = self.options["size"]
        return self.messages * size

    @property
    def throughput(self) -> float | None:
        """Bytes per second in each direction."""
        size: int = self.options["size"]
        return None if self.rate is None else self.rate * size

    @property
    def share(self) -> float | None:
        """The share of the messages due that were answered, 0 to 1; None: none was due."""
        return self.messages / self.due if self.due else None

    @property
    def error_count(self) -> int:
        """All errors and lost datagrams."""
        return sum(self.errors.values()) + self.lost

    @property
    def ok(self) -> bool:
        """Whether messages were answered, all of them, and there were no errors."""
        return bool(self.messages) and not self.error_count and not self.unanswered

    @property
    def failure(self) -> str:
        """Why nothing was answered, for a load in which nothing was; the first error, if there is one."""
        for word, detail in self.examples.items():
            return f"{word}: {detail}"
        if self.interrupted:
            return "interrupted before anything was " + ("sent" if self.started is None else "answered")
        return "nothing was answered"


def make_result(options: Options, figures: Figures) -> Result:
    """The result of a load with these *figures*."""
    stats, started = figures.stats, figures.started
    errors, examples = _errors(stats)
    result = Result(
        target=options.target.text,
        options=options.shown(),
        started=None,
        seconds=None,
        interrupted=figures.interrupted,
        connections=0,
        due=None,
        messages=0,
        unanswered=None,
        oldest=None,
        rate=None,
        dead_after=None,
        errors=errors,
        examples=examples,
        lost=0,
        late=0,
        latency=Histogram(),
        busy=None,
        lag=None,
        stalled=None,
        addresses=[_address_result(each, None if started is None else figures.seconds) for each in stats],
    )
    if started is None:
        return result
    for each in stats:
        result.latency.merge(each.histogram)
    seconds = figures.seconds
    in_time = sum(each.in_time for each in stats)
    return replace(
        result,
        started=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        seconds=seconds or None,
        connections=sum(each.connections for each in stats),
        due=figures.due,
        messages=result.latency.total,
        unanswered=figures.unanswered,
        oldest=figures.oldest,
        rate=in_time / seconds if seconds else None,
        dead_after=figures.dead_after,
        lost=sum(each.lost for each in stats),
        late=sum(each.late for each in stats),
        busy=figures.busy,
        lag=None if options.rate is None else figures.lag // 1000,
        stalled=figures.stalled // 1000,
        over_time=[make_row(each) for each in figures.intervals],
    )


def nothing_sent(options: Options, stats: Sequence[AddressStats], *, interrupted: bool = False) -> Result:
    """The result of a load that never began: no connection could be opened, or it was *interrupted*."""
    return make_result(options, Figures(stats, interrupted=interrupted))


def _errors(stats: Sequence[AddressStats]) -> tuple[dict[str, int], dict[str, str]]:
    """Errors by word, and the details of the first of each, with its address where there are several."""
    errors: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for each in stats:
        if not each.excused:
            errors.update(each.errors)
            for word, detail in each.examples.items():
                examples.setdefault(word, f"{each.address}: {detail}" if len(stats) > 1 else detail)
    return dict(errors), examples


def _address_result(stats: AddressStats, seconds: float | None) -> AddressResult:
    latency = stats.histogram
    p50, p99 = latency.percentiles([50, 99]) if latency.total else (None, None)
    return AddressResult(
        address=stats.address,
        used=not stats.excused,
        connections=stats.connections,
        messages=latency.total,
        rate=round(stats.in_time / seconds, 3) if seconds and stats.opened else None,
        errors=dict(stats.errors),
        lost=stats.lost,
        p50=p50,
        p99=p99,
        max=latency.greatest if latency.total else None,
    )
