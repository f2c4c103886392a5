"""Load: many messages to one target, and how long each took to come back.

Rules: all connections are open before the first message; every byte is compared; with a rate, latency counts
from the time at which a message was due, not from when it could be sent, so that a stalled target is charged
for every message that had to wait (Gil Tene, "How NOT to Measure Latency"; wrk2 does the same); an unanswered
message is an error, never silently left out.

Without a rate the loop is closed: each connection has `window` messages in flight, and each answer makes room
for the next. This measures how much a target can do, but not how long a user would wait: while the target
stalls, nothing is sent, so nothing is measured.
"""

from __future__ import annotations

import gc
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.task import LoopingCall

from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.client.load.histogram import Histogram
from suite.client.load.opener import Opener
from suite.client.load.options import LoadError, Options
from suite.client.load.results import Result
from suite.client.load.traffic import NO_WINDOW, LoadConnection, Traffic
from suite.engine.linux.timerfd import start_timer
from suite.errors import UsageError

#: Connections being opened at the same time; fits a backlog of 128 (the old default of net.core.somaxconn).
OPENING_AT_ONCE: Final = 64

#: Seconds between two counts of the latencies; frequent, so that each count is short.
COUNT_EVERY: Final = 0.02

#: Seconds between two progress reports.
SHOW_EVERY: Final = 0.5

#: The shortest tick of the schedule, in nanoseconds. At higher rates, several messages are due at each tick.
SHORTEST_TICK: Final = 20_000

#: Seconds that closing the connections may take.
CLOSING_TIME: Final = 2.0

_NANO: Final = 1_000_000_000

#: Descriptors needed for anything but connections.
OTHER_DESCRIPTORS: Final = 64


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


class Load:
    """One load, from its first connection to its result.

    :param reactor: the reactor that runs the load.
    :param dialer: connects to the target.
    :param show: called with a `Snapshot` every `SHOW_EVERY` seconds.
    """

    def __init__(
        self,
        reactor: Any,
        options: Options,
        dialer: Dialer,
        show: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self.options = options
        self._reactor = reactor
        self._show = show
        window = (1 if options.rate is None else NO_WINDOW) if options.window is None else options.window
        self._traffic = Traffic(
            reactor,
            size=options.size,
            window=window,
            interval=0 if options.rate is None else _NANO / options.rate,
            timeout=int(options.timeout * _NANO),
            ended=self._connection_ended,
        )
        self._opener = Opener(self._traffic, dialer)
        self._connections: list[LoadConnection] = []
        self._histogram = Histogram()
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._running: Deferred[Result] | None = None
        self._finished: Deferred[None] = Deferred()
        self._interrupted = False
        self._begin = 0  # when the first message is due, by `time.monotonic_ns`; 0: not started
        self._planned = 0 if options.rate is None else max(1, int(options.duration * options.rate))
        self._released = 0  # how many of the planned messages have been due so far
        self._lag = 0
        self._stopped = 0  # when sending ended; 0: not yet
        self._in_time = 0  # messages answered before `_stopped`
        self._busy = 0.0
        self._shown = (0, 0)  # time and messages of the last snapshot

    def run(self) -> Deferred[Result]:
        """Load the target; fails with `LoadError` if no message is answered."""
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def interrupt(self) -> None:
        """End the load now; the result has what was measured so far."""
        if self._begin:
            if not self._finished.called:
                self._interrupted = True
                self._finish()
        elif self._running is not None:
            self._running.cancel()

    async def _run(self) -> Result:
        make_room(self.options.connections + OTHER_DESCRIPTORS)
        try:
            await self._open()
            # The objects that exist now will not become garbage: exempt them from collection.
            gc.collect()
            gc.freeze()
            ends = self._start()
            try:
                await self._finished
            finally:
                for end in ends:
                    end()
                gc.unfreeze()
            return self._result()
        except CancelledError:
            raise LoadError(self.options.target.text, "interrupted before anything was sent") from None
        finally:
            await self._close()

    # Opening.

    async def _open(self) -> None:
        """Open the connections; if the first one fails, do not try the others."""
        await self._open_one(0)
        if self._connections:
            indices = iter(range(1, self.options.connections))
            openers = [Deferred.fromCoroutine(self._open_some(indices)) for _ in range(OPENING_AT_ONCE)]
            try:
                await gatherResults(openers, consumeErrors=True)
            except defer.FirstError as error:
                error.subFailure.raiseException()
        self._connections = [connection for connection in self._connections if connection.open]
        if not self._connections:
            raise self._nothing()

    def _nothing(self) -> LoadError:
        """The error when no message came back: the first failure that was seen."""
        ((word, detail), *_) = self._examples.items()
        return LoadError(self.options.target.text, f"{word}: {detail}")

    async def _open_some(self, indices: Iterator[int]) -> None:
        for index in indices:
            await self._open_one(index)

    async def _open_one(self, index: int) -> None:
        try:
            self._connections.append(await self._opener.open(index))
        except TargetError as error:
            self._note(error)

    # Sending.

    def _start(self) -> list[Callable[[], object]]:
        """Send the first messages and start the timers; return functions that stop the timers."""
        traffic, options = self._traffic, self.options
        self._started = datetime.now(UTC)
        self._cpu = time.process_time()
        self._begin = now = time.monotonic_ns()
        self._shown = now, 0
        ends: list[Callable[[], object]] = []
        for every, what in ((COUNT_EVERY, self._count), (SHOW_EVERY, self._snapshot)):
            looping = LoopingCall(what)
            looping.clock = self._reactor
            looping.start(every, now=False).addErrback(self._finished.errback)
            ends.append(looping.stop)
        stop = self._reactor.callLater(options.duration, self._stop)
        ends.append(lambda: stop.active() and stop.cancel())
        for turn, connection in enumerate(self._connections):
            connection.schedule(now, turn, len(self._connections))
            if options.rate is None:
                connection.add(traffic.window, now)
        if options.rate is not None:
            tick = max(int(traffic.interval), SHORTEST_TICK)
            ends.append(start_timer(self._reactor, now, tick, self._release))
        return ends

    def _release(self) -> None:
        """Hand the messages that are due by now to their connections."""
        traffic, connections = self._traffic, self._connections
        now = time.monotonic_ns()
        first, stride = self._released, len(connections)
        due = min(int((now - self._begin) / traffic.interval) + 1, self._planned)
        if due == first:
            return
        self._released = due
        self._lag = max(self._lag, now - self._begin - int(first * traffic.interval))
        for number in range(first, min(due, first + stride)):
            connection = connections[number % stride]
            if connection.open:
                connection.add(1 + (due - 1 - number) // stride, now)

    def _count(self) -> None:
        """Count the answers since the last count; finish when no more can arrive."""
        traffic = self._traffic
        self._histogram.record(traffic.latencies)
        traffic.latencies.clear()
        now = time.monotonic_ns()
        for connection in self._connections:
            connection.expire(now)
        for error in traffic.wrong:
            self._note(error)
        traffic.wrong.clear()
        if self._stopped and (not self._unanswered() or now - self._stopped > traffic.timeout):
            self._finish()

    def _unanswered(self) -> int:
        return sum(connection.unanswered for connection in self._connections if connection.open)

    def _snapshot(self) -> None:
        now, messages = time.monotonic_ns(), self._histogram.total
        then, before = self._shown
        self._shown = now, messages
        errors = self._errors.total() + self._traffic.lost
        seconds = (now - self._begin) / _NANO
        self._show(Snapshot(seconds, messages, (messages - before) * _NANO / (now - then), errors))

    def _stop(self) -> None:
        """Release no more messages; answers to those already due may still arrive."""
        if self.options.rate is not None:
            self._release()
        for connection in self._connections:
            connection.wind_down()
        self._stopped = time.monotonic_ns()
        self._busy = time.process_time() - self._cpu
        self._histogram.record(self._traffic.latencies)
        self._traffic.latencies.clear()
        self._in_time = self._histogram.total

    def _finish(self) -> None:
        """End the load; `_run` continues from here."""
        if self._finished.called:
            return
        if not self._stopped:
            self._stop()
        self._finished.callback(None)

    # Ending.

    def _connection_ended(self, error: TargetError) -> None:
        self._note(error)
        if self._begin and not any(connection.open for connection in self._connections):
            self._finish()

    def _note(self, error: TargetError) -> None:
        self._errors[error.word] += 1
        self._examples.setdefault(error.word, error.detail)

    def _result(self) -> Result:
        traffic, options = self._traffic, self.options
        self._count()
        unanswered = 0 if self._interrupted else self._unanswered()
        lost = traffic.lost
        if options.target.transport == "udp":
            lost += unanswered
        elif unanswered:
            self._errors["timeout"] += unanswered
            self._examples.setdefault("timeout", f"no echo within {options.timeout:g} s after the end")
        if self._errors and not self._histogram.total:
            raise self._nothing()
        seconds = (self._stopped - self._begin) / _NANO
        return Result(
            target=options.target.text,
            options=options.shown(),
            started=self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            seconds=seconds,
            interrupted=self._interrupted,
            connections=len(self._connections),
            messages=self._histogram.total,
            rate=self._in_time / seconds,
            errors=dict(self._errors),
            examples=self._examples,
            lost=lost,
            late=traffic.late,
            latency=self._histogram,
            busy=self._busy / seconds,
            lag=None if options.rate is None else self._lag // 1000,
        )

    async def _close(self) -> None:
        """Close all connections properly: over TLS, that takes both sides."""
        for connection in self._connections:
            connection.close()
        closing = DeferredList([connection.closed for connection in self._connections])
        closing.addTimeout(CLOSING_TIME, self._reactor)
        with suppress(defer.TimeoutError):
            await closing


def make_room(descriptors: int) -> None:
    """Raise the limit of this process to at least *descriptors* open files.

    :raises UsageError: the system does not allow that many.
    """
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:  # a sandbox does not even tell; opening them will
        return
    if soft == resource.RLIM_INFINITY or soft >= descriptors:
        return
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        raise UsageError(
            f"--connections {descriptors - OTHER_DESCRIPTORS}: the system allows {hard} open files;"
            f" expected at most {max(1, hard - OTHER_DESCRIPTORS)}"
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    except OSError as error:
        raise UsageError(
            f"--connections {descriptors - OTHER_DESCRIPTORS}: cannot have more than {soft} open files here"
            f" ({error.strerror}); expected at most {max(1, soft - OTHER_DESCRIPTORS)}"
        ) from None
