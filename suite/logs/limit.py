"""Rate limits: the first few events of each kind are shown, the others counted.

Rules: an event that is not shown is never formatted; a flood of bad clients cannot flood the log; every event
is accounted for.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.reflect import safe_repr
from zope.interface import implementer

from suite.logs.lines import message_of

#: Length of a window in seconds; all kinds of events are counted in the same windows.
WINDOW: Final = 1.0

#: Events of one kind shown in a window; the rest are only counted.
BURST: Final = 5

#: Lines in a window for all kinds together, summaries included (systemd-journald allows a service
#: 10,000 messages in 30 seconds: RateLimitBurst= in journald.conf(5)).
TOTAL: Final = 100

#: Kinds distinguished in a window. A summary for each, and one for all others, add up to `TOTAL` lines.
KINDS: Final = TOTAL - 1


@dataclass(slots=True)
class KindCount:
    """Counts of the events of one kind in a window.

    :ivar like: the fields that the events of this kind have in common.
    :ivar burst: how many events may be shown.
    :ivar shown: how many have been shown.
    :ivar suppressed: how many have only been counted.
    :ivar example: the message of the first suppressed event.
    """

    like: dict[str, Any]
    burst: int = BURST
    shown: int = 0
    suppressed: int = 0
    example: str = ""


#: The fields that define a kind. None of their values comes from a peer.
KIND: Final[tuple[str, ...]] = ("log_namespace", "log_format", "log_level", "endpoint", "reason")


@implementer(ILogObserver)
class RateLimit:
    """Passes on the first few events of each kind, and only the number of the others.

    Time is divided into windows. The first `BURST` events of a kind in a window are shown; a summary at the
    end of the window counts the rest. A kind that exceeds `BURST` in one window gets only summaries until a
    window has no more than that. At most `TOTAL` lines are shown in a window. Debug events, those
    requested by a signal, and those with a field ``unlimited`` (the faults that strike a connection) are not
    limited: a user who asks for them wants them all.

    :param clock: measures the windows; without events, nothing is scheduled.
    :param observer: receives the events that are shown.
    :ivar suppressed: how many events have only been counted, in all windows.
    """

    def __init__(self, clock: IReactorTime, observer: ILogObserver) -> None:
        self._clock = clock
        self._observer = observer
        self._counts: dict[Hashable, KindCount] = {}
        self._lines = 0
        self.suppressed = 0
        self._end: IDelayedCall | None = None

    def begin_anew(self, clock: IReactorTime) -> None:
        """Count from 0, by another *clock*: in a process that has just been forked from the one before."""
        self._clock, self._end = clock, None
        self._counts, self._lines, self.suppressed = {}, 0, 0

    def __call__(self, event: LogEvent) -> None:
        """Show *event*, or count it."""
        get = event.get
        level = get("log_level")
        if level is LogLevel.debug or "requested" in event or "unlimited" in event:
            self._observer(event)
            return
        kind = (get("log_namespace"), get("log_format"), level, get("endpoint"), get("reason"))
        try:
            count = self._counts.get(kind)
        except TypeError:  # a field is not hashable: a list, for instance
            kind = tuple(map(safe_repr, kind))
            count = self._counts.get(kind)
        if count is None:
            count = self._new_count(kind, event)
        if count.shown < count.burst and self._lines < TOTAL:
            count.shown += 1
            self._lines += 1
            self._observer(event)
        else:
            if not count.suppressed:
                count.example = count.example or message_of(event)
            count.suppressed += 1
            self.suppressed += 1

    def _new_count(self, kind: Hashable, event: LogEvent) -> KindCount:
        if self._end is None:
            self._end = self._clock.callLater(WINDOW, self._end_window)
        if len(self._counts) < KINDS:
            like = {name: event[name] for name in KIND if name in event}
            return self._counts.setdefault(kind, KindCount(like))
        others = {"log_namespace": __name__, "log_level": LogLevel.warn}
        return self._counts.setdefault(
            None, KindCount(others, burst=0, example="too many kinds of events to distinguish")
        )

    def _end_window(self) -> None:
        self._end = None
        self._summarize()
        if self._counts or self._lines:
            self._end = self._clock.callLater(WINDOW, self._end_window)

    def _summarize(self) -> None:
        """Pass on the counts of suppressed events, and start counting anew."""
        counts, self._counts = self._counts, {}
        self._lines = 0
        for kind, count in counts.items():
            if not count.suppressed:
                continue
            if count.shown + count.suppressed > BURST:
                self._counts[kind] = KindCount(count.like, burst=0)
            self._lines += 1
            self._observer(
                {
                    **count.like,
                    "log_time": time.time(),
                    "log_format": "{example}; suppressed {suppressed:,} like it",
                    "example": count.example,
                    "suppressed": count.suppressed,
                }
            )

    def flush(self) -> None:
        """Pass on the counts of suppressed events now, and cancel the timer."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._summarize()
        self._counts.clear()
