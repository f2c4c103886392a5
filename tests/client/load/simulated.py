"""A target in memory, with a clock that the test advances: what a load says of it can be known exactly."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from suite.client.dial.failures import TargetError
from suite.client.dial.target import parse_target
from suite.client.load.measurement import Measurement
from suite.client.load.opener import Opener
from suite.client.load.options import Options
from suite.client.load.results import Result, make_result
from suite.client.load.schedule import NANO, Schedule
from suite.client.load.series import HistogramLog
from suite.client.load.stats import AddressStats
from suite.client.load.streams import LoadStream
from suite.client.load.traffic import NO_WINDOW, LoadConnection, Traffic

TARGET = parse_target("tcp:127.0.0.1:1")

#: Seconds by which a test advances the clock at once.
STEP = 0.001


class SimulatedTarget:
    """An echo server that answers after a latency, or misbehaves.

    :ivar latency: seconds.
    :ivar hangs: whether it accepts and answers nothing.
    :ivar closes: whether it closes a connection after each answer.
    :ivar refuses: whether it accepts no connection.
    """

    def __init__(self, addresses: int = 1) -> None:
        self.clock = Clock()
        self.latency = 0.0005
        self.hangs = self.closes = self.refuses = False
        self.stats = [AddressStats(f"127.0.0.{number}:1") for number in range(1, addresses + 1)]
        self.streams: list[LoadStream] = []
        self.traffic: Any = None

    def now(self) -> int:
        return round(self.clock.seconds() * NANO)

    async def open(self, index: int) -> LoadConnection | None:
        """As `Opener.open`."""
        return self.connect(index)

    def connect(self, index: int) -> LoadConnection | None:
        """What `open` opens."""
        stats = self.stats[index % len(self.stats)]
        if self.refuses:
            stats.note(TargetError("refused", "Connection refused"))
            return None
        stats.opened += 1
        stream = LoadStream(self.traffic, stats, index)
        stream.makeConnection(cast(Any, SimulatedWire(self, stream)))
        self.streams.append(stream)
        return stream

    def drop(self, count: int | None = None) -> None:
        """Close *count* connections, or all."""
        for stream in [each for each in self.streams if each.open][:count]:
            self.lose(stream)

    def lose(self, stream: LoadStream) -> None:
        """Close one connection."""
        self.streams.remove(stream)
        stream.connectionLost(Failure(ConnectionDone()))


class SimulatedWire:
    """The transport of one connection to a `SimulatedTarget`."""

    def __init__(self, target: SimulatedTarget, stream: LoadStream) -> None:
        self._target = target
        self._stream = stream
        self._last = 0.0  # when the last bytes arrive: in order, whatever the latency becomes

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self._target.hangs:
            now = self._target.clock.seconds()
            self._last = max(self._last, now + self._target.latency)
            self._target.clock.callLater(self._last - now, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if self._stream.open and not self._target.hangs:
            self._stream.dataReceived(data)
            if self._target.closes:
                self._target.lose(self._stream)

    def abortConnection(self) -> None:
        self._target.clock.callLater(0, self._target.lose, self._stream)

    def loseConnection(self) -> None:
        self.abortConnection()


class Simulation:
    """A measurement of a `SimulatedTarget`."""

    def __init__(self, target: SimulatedTarget, log: HistogramLog | None = None, **options: Any) -> None:
        self.target = target
        self.options = Options(TARGET, size=100, **options)
        rate, paced = self.options.rate, self.options.rate is not None
        self.traffic = target.traffic = Traffic(
            target.clock,
            size=100,
            window=self.options.window or (NO_WINDOW if paced else 1),
            schedule=None if rate is None else Schedule(rate, self.options.duration, self.options.warmup),
            timeout=int(self.options.timeout * NANO),
            ended=self._ended,
            clock=target.now,
        )
        connections: list[Any] = [target.connect(index) for index in range(self.options.connections)]
        for connection in connections:
            connection.stats.connections += 1
        self.connections = connections
        opener = cast(Opener, target)
        self.measurement = Measurement(self.traffic, self.options, opener, connections, 64, log)
        self.shown: list[Any] = []
        self.measurement.start(self.shown.append)

    def _ended(self, connection: LoadConnection, error: TargetError) -> None:
        self.measurement.connection_ended(connection, error)

    def run(self, seconds: float) -> None:
        """Let time pass, unless it has finished."""
        end = self.target.clock.seconds() + seconds
        while self.target.clock.seconds() < end - STEP / 2 and not self.measurement.finished.called:
            self.target.clock.advance(STEP)

    @property
    def result(self) -> Result:
        """The result, which must be there and add up."""
        assert self.measurement.finished.called
        self.measurement.finished.addErrback(lambda failure: failure.raiseException())
        result = make_result(self.options, self.measurement.figures)
        given_up = sum(stats.given_up.count for stats in self.target.stats)
        pending = sum(connection.pending(0).count for connection in self.connections)
        assert result.due == result.messages + given_up + pending
        assert result.unanswered == given_up + pending
        return result
