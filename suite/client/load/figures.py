"""What one process has measured, and what several have, together.

Rules: figures are merged before anything is derived from them, so that a percentile of all is the percentile
of all messages; what one worker does not know is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest

from suite.client.load.schedule import NANO, Schedule
from suite.client.load.series import Interval, merged_interval
from suite.client.load.stats import AddressStats, merged_stats


@dataclass
class Figures:
    """The figures of one process, or of several.

    :ivar stats: those of each address.
    :ivar started: when measuring began, by the wall clock; None: nothing was sent, so all else is left out.
    :ivar seconds: the time that rates are over; 0 if it was interrupted before measuring began.
    :ivar interrupted: whether the load was interrupted.
    :ivar due: how many messages have been due.
    :ivar unanswered: those of them that were not answered correctly.
    :ivar oldest: seconds since the oldest of those was due; None if there is none.
    :ivar dead_after: seconds after which no connection was left, and none was to be opened; None: never.
    :ivar busy: the share of one CPU that was used while sending, by the busiest process; None: unknown.
    :ivar lag: the longest delay in nanoseconds in sending what was due.
    :ivar stalled: the longest time in nanoseconds in which a process should have counted, and did not.
    :ivar intervals: latencies and errors over time.
    :ivar unsent: the messages of an open loop none of which was sent, because there was never a connection.
    """

    stats: Sequence[AddressStats]
    started: datetime | None = None
    seconds: float = 0.0
    interrupted: bool = False
    due: int = 0
    unanswered: int = 0
    oldest: float | None = None
    dead_after: float | None = None
    busy: float | None = None
    lag: int = 0
    stalled: int = 0
    intervals: list[Interval] = field(default_factory=list)
    unsent: Schedule | None = None


def merged(found: Sequence[Figures]) -> Figures:
    """The figures of several processes that began at the same time.

    One of them that could not open any connection has errors, and its share of the messages, which count.
    """
    began = [each for each in found if each.started is not None]
    stats = merged_stats([each.stats for each in found])
    interrupted = any(each.interrupted for each in found)
    if not began:
        return Figures(stats, interrupted=interrupted)
    seconds = max(each.seconds for each in began)
    unsent = [each.unsent for each in found if each.unsent is not None]
    missed = sum(each.measured(seconds if interrupted else None) for each in unsent)
    oldest = [each.oldest for each in began if each.oldest is not None]
    if missed:
        oldest.append(seconds - min(each.due(each.warm) - each.lead for each in unsent) / NANO)
    dead = [each.dead_after for each in began]
    intervals = zip_longest(*(each.intervals for each in began))
    return Figures(
        stats,
        started=min(each.started for each in began if each.started is not None),
        seconds=seconds,
        interrupted=interrupted,
        due=missed + sum(each.due for each in began),
        unanswered=missed + sum(each.unanswered for each in began),
        oldest=max(oldest, default=None),
        dead_after=None if None in dead else max(each for each in dead if each is not None),
        busy=max((each.busy for each in began if each.busy is not None), default=None),
        lag=max(each.lag for each in began),
        stalled=max(each.stalled for each in began),
        intervals=[merged_interval([each for each in row if each is not None]) for row in intervals],
    )
