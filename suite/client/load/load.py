"""Load: many messages to one target, and how long each took to come back.

Rules: all connections are open before the first message; every byte is compared; with a rate, latency counts
from the time at which a message was due, not from when it could be sent, so that a stalled target is charged
for every message that had to wait (Gil Tene, "How NOT to Measure Latency"; wrk2 does the same); an unanswered
message is never silently left out.

Without a rate the loop is closed: each connection has `window` messages in flight, and each answer makes room
for the next. This measures how much a target can do, but not how long a user would wait: while the target
stalls, nothing is sent, so nothing is measured.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic_ns
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults, succeed

from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.client.load.figures import Figures
from suite.client.load.measurement import Measurement, Snapshot
from suite.client.load.opener import Opener
from suite.client.load.options import Options
from suite.client.load.schedule import NANO, WHOLE, Part, Schedule
from suite.client.load.series import HistogramLog
from suite.client.load.stats import AddressStats
from suite.client.load.traffic import NO_WINDOW, LoadConnection, Traffic
from suite.errors import UsageError

#: Connections being opened at the same time; fits a backlog of 128 (the old default of net.core.somaxconn).
OPENING_AT_ONCE: Final = 64

#: Seconds that closing the connections may take.
CLOSING_TIME: Final = 2.0

#: Descriptors needed for anything but connections.
OTHER_DESCRIPTORS: Final = 64


class Load:
    """One load, from its first connection to its figures.

    :param reactor: the reactor that runs the load.
    :param dialer: connects to the target.
    :param show: called with a `Snapshot` every half second.
    :param log: takes a histogram for each second.
    :param part: which part of the whole load this is.
    :param opened: called when all connections are open; the first message waits for what it returns.
    :param clock: the time in nanoseconds, on the reactor's clock.
    """

    def __init__(
        self,
        reactor: Any,
        options: Options,
        dialer: Dialer,
        show: Callable[[Snapshot], None] = lambda _: None,
        log: HistogramLog | None = None,
        clock: Callable[[], int] = monotonic_ns,
        part: Part = WHOLE,
        opened: Callable[[], Deferred[None]] = lambda: succeed(None),
    ) -> None:
        self.options = options
        self._reactor = reactor
        self._show = show
        self._log = log
        window = (1 if options.rate is None else NO_WINDOW) if options.window is None else options.window
        self._traffic = Traffic(
            reactor,
            size=options.size,
            window=window,
            schedule=_schedule(options, part),
            timeout=int(options.timeout * NANO),
            ended=self._connection_ended,
            clock=clock,
        )
        self._opener = Opener(self._traffic, dialer)
        self._opened = opened
        self._indices = part.connections(options.connections)
        self._connections: list[LoadConnection] = []
        self._measurement: Measurement | None = None
        self._running: Deferred[Figures] | None = None

    def run(self) -> Deferred[Figures]:
        """Load the target."""
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def interrupt(self) -> None:
        """End the load soon; the figures have what was measured so far."""
        if self._measurement is not None:
            self._measurement.interrupt()
        elif self._running is not None:
            self._running.cancel()

    async def _run(self) -> Figures:
        make_room(len(self._indices) + OTHER_DESCRIPTORS)
        try:
            try:
                await self._open()
                await self._opened()
            except CancelledError:
                return Figures(self._opener.stats, interrupted=True)
            if not self._connections:
                return Figures(self._opener.stats, unsent=self._traffic.schedule)
            return await self._measure()
        finally:
            await self._close()

    async def _measure(self) -> Figures:
        # The objects that exist now will not become garbage: exempt them from collection.
        gc.collect()
        gc.freeze()
        try:
            self._measurement = measurement = Measurement(
                self._traffic, self.options, self._opener, self._connections, OPENING_AT_ONCE, self._log
            )
            measurement.start(self._show)
            await measurement.finished
        finally:
            gc.unfreeze()
        return measurement.figures

    # Opening.

    async def _open(self) -> None:
        """Open the connections; if the first one of every address fails, do not try the others."""
        try:
            await self._opener.find()
        except TargetError as error:
            self._opener.stats = [AddressStats(self.options.target.text)]
            self._opener.stats[0].note(error)
            return
        first = max(1, self._opener.usable)
        for index in self._indices[:first]:
            await self._open_one(index)
        if self._connections:
            indices = iter(self._indices[first:])
            openers = [Deferred.fromCoroutine(self._open_some(indices)) for _ in range(OPENING_AT_ONCE)]
            try:
                await gatherResults(openers, consumeErrors=True)
            except defer.FirstError as error:
                error.subFailure.raiseException()
        self._opener.close()
        self._connections = [connection for connection in self._connections if connection.open]
        for connection in self._connections:
            connection.stats.connections += 1

    async def _open_some(self, indices: Iterator[int]) -> None:
        for index in indices:
            await self._open_one(index)

    async def _open_one(self, index: int) -> None:
        connection = await self._opener.open(index)
        if connection is not None:
            self._connections.append(connection)

    def _connection_ended(self, connection: LoadConnection, error: TargetError) -> None:
        if self._measurement is None:  # before the first message
            connection.stats.note(error)
        else:
            self._measurement.connection_ended(connection, error)

    async def _close(self) -> None:
        """Close all connections properly: over TLS, that takes both sides."""
        self._opener.close()
        for connection in self._connections:
            connection.close()
        closing = DeferredList([connection.closed for connection in self._connections])
        closing.addTimeout(CLOSING_TIME, self._reactor)
        with suppress(defer.TimeoutError):
            await closing


def _schedule(options: Options, part: Part) -> Schedule | None:
    if options.rate is None:
        return None
    return Schedule(options.rate, options.duration, options.warmup, part)


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
