"""Load over a stream.

Rules: every byte that comes back is compared with the byte that was sent; a message's latency counts from
when it was due, which with a rate is when the schedule says, even if it could not be sent then (see
`suite.client.load.load`); a connection that falls behind does not use more memory.

A stream repeats the shared bytes of `Traffic.pattern`, starting at an offset of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.failures import TargetError
from suite.client.load.schedule import WARM
from suite.client.load.stats import AddressStats
from suite.client.load.traffic import APART, CHUNK, PERIOD, LoadConnection, Traffic
from suite.engine.interfaces import INeedsNoLogContext


@implementer(IPushProducer, INeedsNoLogContext)
class LoadStream(LoadConnection, Protocol):
    """A TCP, UNIX or TLS connection of a load."""

    def __init__(self, traffic: Traffic, stats: AddressStats, index: int) -> None:
        super().__init__(traffic, stats, index)
        self._in_flight: deque[int] = deque()  # when each message in flight was due
        self._send_offset = self._receive_offset = index * APART % PERIOD
        self._unsent = 0  # bytes of begun messages that are still to be written
        self._received = 0  # bytes received of the oldest message in flight
        self._answered_bytes = 0
        self._batch = max(1, CHUNK // traffic.size)

    @property
    @override
    def answered_any(self) -> bool:
        return self._answered_bytes > 0

    @property
    @override
    def unanswered(self) -> int:
        return self.waiting + len(self._in_flight)

    @override
    def _dues(self) -> Iterable[int]:
        return self._in_flight

    @override
    def begin_measuring(self) -> None:
        self._in_flight = deque([WARM] * len(self._in_flight))

    @override
    def _forget(self) -> None:
        self._in_flight.clear()

    @override
    def connectionMade(self) -> None:
        self.open = True
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]  # connected
        self._write: Callable[[bytes], None] = self.transport.write  # type: ignore[union-attr]

    @override
    def dataReceived(self, data: bytes) -> None:
        now = self._clock()
        offset, length = self._receive_offset, len(data)
        if data != self._pattern[offset : offset + length]:
            self._differ(data)
            return
        self._receive_offset = (offset + length) % PERIOD
        if (
            length == self._size
            and self._steady
            and not (self._received or self._unsent or self.waiting or self.paused)
        ):
            # Fast path: exactly one message has come back and the next can be sent at once. The same as
            # the code below and `pump`.
            in_flight = self._in_flight
            if in_flight:
                self._answered_bytes += length
                self._latencies.append(now - in_flight.popleft())
                in_flight.append(now)
                offset = self._send_offset
                self._send_offset = (offset + length) % PERIOD
                self._write(self._pattern[offset : offset + length])
                return
        received = self._received + length
        size, in_flight = self._size, self._in_flight
        if received > len(in_flight) * size - self._unsent:
            after = self._answered_bytes + len(in_flight) * size - self._unsent
            self._fail(TargetError("mismatch", f"after byte {after}: more came back than was sent"))
            return
        if received < size:
            self._received = received
            return
        count, self._received = divmod(received, size)
        self._answered_bytes += count * size
        if count == 1:
            self._latencies.append(now - in_flight.popleft())
        else:
            self._latencies.extend([now - in_flight.popleft() for _ in range(count)])
        self._answered(count, now)

    @override
    def pump(self, now: int) -> None:
        in_flight = self._in_flight
        while not self.paused and self.open:
            if not self._unsent:
                count = self.waiting
                if count > 1:
                    count = min(count, self._batch)
                count = min(count, self._window - len(in_flight))
                if count <= 0:
                    return
                if self._paced:
                    begun = self._begun
                    self._begun = after = begun + count
                    in_flight.extend(map(self._due, range(begun, after)))
                else:
                    in_flight.extend(repeat(now, count))
                self.waiting -= count
                self._unsent = count * self._size
            length = self._unsent if self._unsent <= CHUNK else CHUNK
            offset = self._send_offset
            self._send_offset = (offset + length) % PERIOD
            self._unsent -= length
            self._write(self._pattern[offset : offset + length])

    def pauseProducing(self) -> None:
        """`IPushProducer.pauseProducing`: the send buffer is full."""
        self.paused = True

    def resumeProducing(self) -> None:
        """`IPushProducer.resumeProducing`: the send buffer has room again."""
        self.paused = False
        self.pump(self._clock())

    def stopProducing(self) -> None:
        """`IProducer.stopProducing`: the connection is lost; `connectionLost` follows."""

    @override
    def connectionLost(self, reason: Failure = Failure(CONNECTION_DONE)) -> None:  # noqa: B008  # Twisted's
        error = reason.value
        if not isinstance(error, TargetError):
            count = self.unanswered
            error = TargetError(
                "closed", f"by the other side, with {count} message{'s' * (count != 1)} unanswered"
            )
        self._failed(error)
        self.closed.callback(None)

    @override
    def expire(self, now: int) -> None:
        pass  # a stream is in order: a late message delays the rest, which shows in their latencies

    def _fail(self, error: TargetError) -> None:
        self._failed(error)
        self.transport.abortConnection()  # type: ignore[union-attr]  # connected

    def _failed(self, error: TargetError) -> None:
        if self.open:
            self.open = False
            self._traffic.ended(self, error)

    @override
    def close(self) -> None:
        if self.open:
            self.open = False
            transport: Any = self.transport
            transport.unregisterProducer()
            if self._in_flight:
                transport.abortConnection()
            else:
                transport.loseConnection()

    def _differ(self, data: bytes) -> None:
        wanted = self._pattern[self._receive_offset :]
        offset = next(n for n, byte in enumerate(data) if byte != wanted[n])
        at = self._answered_bytes + self._received + offset
        detail = f"at byte {at}: expected {wanted[offset]:#04x}, got {data[offset]:#04x}"
        self._fail(TargetError("mismatch", detail, {"offset": at}))
