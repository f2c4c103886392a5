"""Load: many messages to one target, and how long each took to come back.

Rules: all connections are open before the first message; every byte is compared; with a rate, a message
counts from the moment at which the schedule wants it, not from when it could be sent, so that a target
that stalls is charged for all that had to wait (Gil Tene, "How NOT to Measure Latency"; the way of wrk2);
what is not answered is an error, never left out in silence.

Without a rate the loop is closed: each connection has `window` messages on the way, and an answer
makes room for the next. That finds out how much a target can do, and says little about how long a user
would wait: while the target stalls, nothing is sent, so nothing is seen to wait.
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

#: Connections that are being opened at one time: a backlog of 128 (net.core.somaxconn, once) has room.
OPENING_AT_ONCE: Final = 64

#: How often the latencies are counted, in seconds: often, so that it never takes long.
COUNT_EVERY: Final = 0.02

#: How often progress is shown, in seconds.
SHOW_EVERY: Final = 0.5

#: The schedule's shortest tick, in nanoseconds. With more messages than that, some are due at each.
SHORTEST_TICK: Final = 20_000

#: How long closing may take, in seconds.
CLOSING_TIME: Final = 2.0


_NANO: Final = 1_000_000_000


#: Descriptors that are needed for other things than connections.
OTHER_DESCRIPTORS: Final = 64


@dataclass(frozen=True)
class Snapshot:
    """How far a load is.

    :ivar seconds: since the first message.
    :ivar rate: messages answered a second, since the last snapshot.
    :ivar errors: and datagrams lost, so far.
    """

    seconds: float
    messages: int
    rate: float
    errors: int


class Load:
    """One load, from its first connection to its result.

    :param reactor: runs it.
    :param dialer: connects to the target.
    :param show: is given a `Snapshot` now and then.
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
        self._over: Deferred[None] = Deferred()
        self._interrupted = False
        self._begin = 0  # when the first message is due, as `time.monotonic_ns` counts; 0: nobody knows yet
        self._planned = 0 if options.rate is None else max(1, int(options.duration * options.rate))
        self._released = 0  # of the planned messages, those that were due so far
        self._lag = 0
        self._stopped = 0  # when sending ended; 0: it has not
        self._in_time = 0  # messages answered by then
        self._busy = 0.0
        self._shown = (0, 0)  # when, and how many messages there were

    def run(self) -> Deferred[Result]:
        """Load the target; fails with `LoadError` when nothing but errors comes of it."""
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def interrupt(self) -> None:
        """End it now, with what was measured."""
        if self._begin:
            if not self._over.called:
                self._interrupted = True
                self._finish()
        elif self._running is not None:
            self._running.cancel()

    async def _run(self) -> Result:
        make_room(self.options.connections + OTHER_DESCRIPTORS)
        try:
            await self._open()
            # What there is by now will not become garbage: no need to look at it again and again.
            gc.collect()
            gc.freeze()
            ends = self._start()
            try:
                await self._over
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
        """Open the connections; the first one tells whether there is any point in it."""
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
        """Not one message came back, for the first reason that was seen."""
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
        """Send the first messages; return what ends all that goes on by itself."""
        traffic, options = self._traffic, self.options
        self._started = datetime.now(UTC)
        self._cpu = time.process_time()
        self._begin = now = time.monotonic_ns()
        self._shown = now, 0
        ends: list[Callable[[], object]] = []
        for every, what in ((COUNT_EVERY, self._count), (SHOW_EVERY, self._snapshot)):
            looping = LoopingCall(what)
            looping.clock = self._reactor
            looping.start(every, now=False).addErrback(self._over.errback)
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
        """Let out what is due by now."""
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
        """Count what has come back since the last time; end it when nothing more can come."""
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
        """Send no more than is due; what is on the way may still come back."""
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
        """It is over; `_run` goes on from here."""
        if self._over.called:
            return
        if not self._stopped:
            self._stop()
        self._over.callback(None)

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
        """Close all connections, as they should be: over TLS, that takes both sides."""
        for connection in self._connections:
            connection.close()
        closing = DeferredList([connection.closed for connection in self._connections])
        closing.addTimeout(CLOSING_TIME, self._reactor)
        with suppress(defer.TimeoutError):
            await closing


def make_room(descriptors: int) -> None:
    """See that this process may have so many *descriptors* open.

    :raises UsageError: the system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= descriptors:
        return
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        raise UsageError(
            f"--connections {descriptors - OTHER_DESCRIPTORS}: the system allows {hard} open files;"
            f" expected {max(1, hard - OTHER_DESCRIPTORS)} at the most"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
