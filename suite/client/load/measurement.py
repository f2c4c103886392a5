"""One measurement: from the first message that is due to the last answer.

Rules: whatever was due is in the figures, also what was due on a connection that had broken; a rate is over
the planned time, or until the interruption; after the end of sending, answers may still arrive for a while:
`timeout`, or after an interruption at most `LONGEST_GRACE`, so that what happened to be in flight is not
taken for something that nobody answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

from suite.client.dial.failures import TargetError
from suite.client.histogram import Histogram
from suite.client.load.figures import Figures
from suite.client.load.opener import Opener
from suite.client.load.options import Options
from suite.client.load.schedule import NANO
from suite.client.load.series import LOG_EVERY, HistogramLog, Interval, Intervals, row_length
from suite.client.load.stats import Unanswered
from suite.client.load.traffic import LoadConnection, Traffic
from suite.engine.linux.timerfd import start_timer

#: Seconds between two counts of the latencies; frequent, so that each count is short.
COUNT_EVERY: Final = 0.02

#: Seconds between two progress reports.
SHOW_EVERY: Final = 0.5

#: Seconds between two adjustments of the schedule's timer, whose ticks are whole nanoseconds: those of 300
#: messages a second are short by a third of one, which after an hour would be a tenth of a millisecond.
ADJUST_EVERY: Final = 1.0

#: Seconds that answers have to arrive after an interruption, at least and at most; between the two, twice the
#: longest latency so far.
SHORTEST_GRACE: Final = 0.2
LONGEST_GRACE: Final = 1.0

#: Seconds before the second attempt to open a broken connection again; doubled with each that follows, until
#: messages are answered.
FIRST_RETRY: Final = 0.1
LAST_RETRY: Final = 2.0


@dataclass(frozen=True)
class Snapshot:
    """The progress of a load.

    :ivar seconds: seconds since the first message.
    :ivar messages: messages answered so far.
    :ivar rate: messages answered per second since the last snapshot.
    :ivar errors: errors so far, lost datagrams included.
    """

    seconds: float
    messages: int
    rate: float
    errors: int


class Measurement:
    """Sends the messages of a load over open connections, and counts what comes back.

    :param opener: opens broken connections again.
    :param reopening: how many may be opened at the same time.
    :param log: takes a histogram for each second.
    :ivar connections: the connections, some of which may be broken.
    :ivar finished: fires when everything has arrived, or will not.
    :ivar started: when measuring began, by the wall clock.
    :ivar due: how many messages have been due since then; known when it has finished.
    :ivar unanswered: those of them that were not answered correctly.
    :ivar oldest: seconds since the oldest of those was due; None if there is none.
    :ivar seconds: the time that rates are over; 0 if it was interrupted before measuring began.
    :ivar dead_after: seconds after which no connection was left, and none was to be opened; None: never.
    :ivar busy: seconds of CPU time used while sending.
    :ivar sending: seconds from the first message to the end of sending.
    :ivar lag: the longest delay in nanoseconds in sending what was due.
    :ivar stalled: the longest time in nanoseconds in which this process should have counted, and did not.
    :ivar intervals: latencies and errors over time.
    """

    def __init__(
        self,
        traffic: Traffic,
        options: Options,
        opener: Opener,
        connections: list[LoadConnection],
        reopening: int,
        log: HistogramLog | None = None,
    ) -> None:
        self.connections = connections
        self.finished: Deferred[None] = Deferred()
        self.interrupted = False
        self.due = 0
        self.unanswered = 0
        self.oldest: float | None = None
        self.seconds = self.sending = self.busy = 0.0
        self.dead_after: float | None = None
        self.lag = self.stalled = 0
        self.intervals: list[Interval] = []
        self._traffic = traffic
        self._options = options
        self._schedule = traffic.schedule
        self._opener = opener
        self._stats = opener.stats
        self._reopening = DeferredSemaphore(reopening)
        self._delays: dict[int, float] = {}  # by the index of a connection: seconds before the next attempt
        self._loops: list[LoopingCall] = []
        self._calls: set[IDelayedCall] = set()
        self._openings: set[Deferred[Any]] = set()
        self._being_opened: set[int] = set()  # indices of connections
        self._stop_ticking: Callable[[], object] = lambda: None
        self._show: Callable[[Snapshot], None] = lambda _: None
        self._released = 0  # how many messages of the schedule have been due so far
        self._stopped = 0  # when sending ended, by the clock; 0: not yet
        self._patience = traffic.timeout  # nanoseconds to wait for answers after that
        self._begin = self._measured_from = 0
        self._shown = 0, 0
        self._counted = 0
        self._cpu = 0.0
        self._log = log
        self._recorders: list[Intervals] = []
        self._row_errors = 0
        self.started = datetime.now(UTC)

    def start(self, show: Callable[[Snapshot], None]) -> None:
        """Send the first messages and start the timers.

        :param show: called with a `Snapshot` every `SHOW_EVERY` seconds.
        """
        traffic, options = self._traffic, self._options
        self._show = show
        self._cpu = time.process_time()
        self._begin = now = traffic.clock()
        self._shown = now, 0
        self._counted = now
        lead = int(options.warmup * NANO) if self._schedule is None else self._schedule.lead
        self._measured_from = now + lead
        self._start_intervals(lead)
        for every, what in ((COUNT_EVERY, self._count), (SHOW_EVERY, self._snapshot)):
            self._call_every(every, what)
        self._call_later(lead / NANO + options.duration, self._stop)
        for turn, connection in enumerate(self.connections):
            connection.schedule(now, turn, len(self.connections))
            if self._schedule is None:
                connection.add(traffic.window, now)
        if self._schedule is not None:
            self._adjust()
            self._call_every(ADJUST_EVERY, self._adjust)
        if lead:
            self._call_later(lead / NANO, self._begin_measuring)

    def _start_intervals(self, lead: int) -> None:
        self.started = datetime.now(UTC) + timedelta(microseconds=lead // 1000)
        self._row_errors = self._errors()
        length = row_length(self._options.duration)
        self._recorders = [Intervals(self._measured_from, length, self._end_row)]
        if self._log is not None:
            self._log.begin(self.started.timestamp())
            self._recorders.append(Intervals(self._measured_from, LOG_EVERY, self._log.add))

    def interrupt(self) -> None:
        """Send no more; a second time: do not wait for answers either."""
        if self.interrupted:
            self._finish()
        elif not self.finished.called:
            self.interrupted = True
            self._stop()
            longest = max((stats.histogram.greatest for stats in self._stats), default=0) / 1_000_000
            grace = min(max(2 * longest, SHORTEST_GRACE), LONGEST_GRACE)
            self._patience = min(self._patience, int(grace * NANO))
            self._count()

    def connection_ended(self, connection: LoadConnection, error: TargetError) -> None:
        """*connection* has failed."""
        connection.stats.note(error)
        connection.give_up()
        if connection.index in self._being_opened:
            return  # `_replace` will see it
        if self._may_reopen():
            if connection.answered_any:
                self._delays.pop(connection.index, None)
            self._reopen_later(connection)
        elif not any(each.open for each in self.connections):
            if not self._stopped:
                now = self._traffic.clock()
                self.dead_after = max(0.0, (now - self._measured_from) / NANO)
                self._stop(planned=True)
            self._finish()

    @property
    def figures(self) -> Figures:
        """What has been measured, once it has finished."""
        return Figures(
            self._stats,
            self.started,
            self.seconds,
            self.interrupted,
            self.due,
            self.unanswered,
            self.oldest,
            self.dead_after,
            self.busy / self.sending if self.sending else None,
            self.lag,
            self.stalled,
            self.intervals,
        )

    # Sending.

    def _call_every(self, seconds: float, what: Callable[[], None]) -> None:
        looping = LoopingCall(what)
        looping.clock = self._traffic.reactor
        looping.start(seconds, now=False).addErrback(self._broken)
        self._loops.append(looping)

    def _call_later(self, seconds: float, what: Callable[[], None]) -> None:
        def run() -> None:
            self._calls.discard(call)
            what()

        call: IDelayedCall = self._traffic.reactor.callLater(seconds, run)
        self._calls.add(call)

    def _broken(self, failure: Any) -> None:
        """An error of ours; `finished` fails with it."""
        if not self.finished.called:
            self._end_timers()
            self.finished.errback(failure)

    def _adjust(self) -> None:
        """Make the timer tick when messages are due."""
        schedule = self._schedule
        assert schedule is not None  # noqa: S101  # for mypy
        self._stop_ticking()
        if not self._stopped:
            first = self._begin + schedule.due(self._released)
            self._stop_ticking = start_timer(self._traffic.reactor, first, schedule.tick, self._release)

    def _release(self) -> None:
        """Hand the messages that are due by now to their connections."""
        schedule = self._schedule
        assert schedule is not None  # noqa: S101  # for mypy
        now = self._traffic.clock()
        first = self._released
        due = schedule.due_by(now - self._begin)
        if due <= first:
            return
        self._released = due
        self.lag = max(self.lag, now - self._begin - schedule.due(first))
        self._hand_out(first, due, now)

    def _hand_out(self, first: int, after: int, now: int) -> None:
        """The messages from *first*, and before *after*, are due."""
        connections = self.connections
        stride = len(connections)
        for number in range(first, min(after, first + stride)):
            connections[number % stride].add(1 + (after - 1 - number) // stride, now)

    def _begin_measuring(self) -> None:
        """The warm-up is over: what a closed loop has counted so far, and errors, are in no row."""
        self._count()
        if self._schedule is None:  # in an open loop, each message knows whether it is measured
            for stats in self._stats:
                stats.forget()
            for connection in self.connections:
                connection.begin_measuring()
        self._row_errors = self._errors()

    # Opening broken connections again.

    def _may_reopen(self) -> bool:
        if not self._options.reopens or self.finished.called:
            return False
        return not self._stopped or (self._schedule is not None and not self.interrupted)

    def _reopen_later(self, broken: LoadConnection) -> None:
        # At once if it was of use: a delay of ours would be in the latencies of a target that is well.
        delay = self._delays.get(broken.index, 0.0)
        self._delays[broken.index] = min(2 * delay, LAST_RETRY) or FIRST_RETRY
        self._call_later(delay, lambda: self._reopen(broken))

    def _reopen(self, broken: LoadConnection) -> None:
        opening = self._reopening.run(lambda: Deferred.fromCoroutine(self._replace(broken)))
        self._openings.add(opening)

        def done(result: Any) -> Any:
            self._openings.discard(opening)
            return result

        opening.addBoth(done)
        opening.addErrback(lambda failure: failure.trap(CancelledError) and None).addErrback(self._broken)

    async def _replace(self, broken: LoadConnection) -> None:
        """Open a connection in place of *broken*."""
        if not self._may_reopen():
            return
        self._being_opened.add(broken.index)
        try:
            fresh = await self._opener.open(broken.index)
        finally:
            self._being_opened.discard(broken.index)
        if fresh is None or not fresh.open:
            if self._may_reopen():
                self._reopen_later(broken)
            return
        self.connections[self.connections.index(broken)] = fresh
        if self._may_reopen():
            fresh.take_over(broken, self._traffic.clock())

    # Counting.

    def _count(self) -> None:
        """Count the answers since the last count; finish when no more can arrive."""
        traffic = self._traffic
        now = traffic.clock()
        if not self._stopped:
            self.stalled = max(self.stalled, now - self._counted - int(COUNT_EVERY * NANO))
        self._counted = now
        for connection in self.connections:
            connection.expire(now)
        self._count_answers()
        if now >= self._measured_from:
            for recorder in self._recorders:
                recorder.look(now)
        if self._stopped and (not self._can_be_answered() or now - self._stopped > self._patience):
            self._finish()

    def _count_answers(self) -> None:
        others = [recorder.current for recorder in self._recorders]
        for stats in self._stats:
            stats.count(others, warmup=self._options.warmup > 0)

    def _can_be_answered(self) -> bool:
        """Whether a message is in flight, or waits for a connection that may be opened."""
        reopens = self._may_reopen()
        return any(each.unanswered for each in self.connections if each.open or reopens)

    def _end_row(self, start: float, seconds: float, latency: Histogram) -> None:
        errors, before = self._errors(), self._row_errors
        self._row_errors = errors
        whole = seconds > row_length(self._options.duration) / 2
        if whole or latency.total or errors > before:
            self.intervals.append(Interval(start, seconds, latency, errors - before))

    def _errors(self) -> int:
        return sum(stats.errors.total() + stats.lost for stats in self._stats)

    def _snapshot(self) -> None:
        now = self._traffic.clock()
        messages = sum(stats.histogram.total + stats.warm for stats in self._stats)
        then, before = self._shown
        self._shown = now, messages
        rate = (messages - before) * NANO / (now - then)
        self._show(Snapshot((now - self._begin) / NANO, messages, rate, self._errors()))

    # Ending.

    def _stop(self, *, planned: bool = False) -> None:
        """Release no more messages; answers to those already due may still arrive.

        :param planned: whether everything that was planned counts as due, because no connection is left on
            which it could be.
        """
        if self._stopped:
            return
        now = self._traffic.clock()
        if self._schedule is not None:
            self._release()
            self._stop_ticking()
            if planned:
                first, self._released = self._released, self._schedule.total
                self._hand_out(first, self._released, now)
        for connection in self.connections:
            connection.wind_down()
        self._stopped = now
        self.busy = time.process_time() - self._cpu
        self.sending = (now - self._begin) / NANO
        measured = max(0.0, (now - self._measured_from) / NANO)
        self.seconds = measured if self.interrupted else max(measured, self._options.duration)
        self._count_answers()
        for stats in self._stats:
            stats.in_time = stats.histogram.total
        self._end_intervals(now)

    def _finish(self) -> None:
        """No more answers are waited for."""
        if self.finished.called:
            return
        self._stop()
        self._end_timers()
        now = self._traffic.clock()
        self._count_answers()
        self._account(now)
        self._end_intervals(now)
        self.finished.callback(None)

    def _end_intervals(self, now: int) -> None:
        """Answers that arrive after the end of sending are in intervals of their own."""
        if now > self._measured_from:
            for recorder in self._recorders:
                recorder.look(now, last=True)

    def _account(self, now: int) -> None:
        """Count what was due and has no answer."""
        timeout = self._traffic.timeout
        pending = Unanswered()
        for connection in self.connections:
            waiting = connection.pending(now - timeout)
            pending += waiting
            if waiting.overdue:
                detail = f"no echo within {timeout / NANO:g} s"
                connection.stats.add_errors("timeout", waiting.overdue, detail)
        answered = 0
        for stats in self._stats:
            answered += stats.histogram.total
            pending += stats.given_up
        if self._schedule is None:
            self.due = answered + pending.count
        else:
            self.due = max(0, self._released - self._schedule.warm)
        self.unanswered = self.due - answered
        if pending.oldest is not None:
            # A load that ends early, because no connection is left, counts as if it had gone on.
            end = max(now, self._measured_from + int(self.seconds * NANO))
            self.oldest = (end - pending.oldest) / NANO

    def _end_timers(self) -> None:
        self._stop_ticking()
        for looping in self._loops:
            if looping.running:
                looping.stop()
        for call in self._calls:
            call.cancel()
        for opening in list(self._openings):
            opening.cancel()
        self._calls.clear()
