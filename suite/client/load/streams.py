"""Lanes: the connections of a load, each with its messages on the way.

Rules: every byte that comes back is compared with what was sent, at its place; a message's latency is
counted from when it was due, which with a rate is when the schedule says, whether or not it could be
sent then (see `suite.client.load.load`); how much a lane holds does not grow with how far it is behind.

A stream repeats the shared bytes of `Traffic.pattern` from a place of its own. Datagrams begin with their
number, so that each is known when it comes back, in whatever order.
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import repeat
from time import monotonic_ns
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReadWriteDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.dialer import DATAGRAMS_PER_TURN, Address, Dialer, within
from suite.client.dial.failures import TargetError, from_errno
from suite.engine.interfaces import IQuiet

#: Bytes that are handed over for sending in one call.
CHUNK: Final = 256 * 1024

#: A prime: however long messages are, 65,537 of a lane in a row begin at different places.
PERIOD: Final = 65_537

#: How far apart the places are at which lanes begin; a prime as well.
APART: Final = 7_919

#: The number that a datagram begins with, in bytes.
NUMBER_SIZE: Final = 8

#: Of that number: the lane is above, its messages are counted below.
LANE_SHIFT: Final = 40

#: What `Traffic.window` is without one.
NO_WINDOW: Final = 2**62

#: How often a target is asked whether it answers datagrams at all.
HELLOS: Final = 3


@dataclass
class Traffic:
    """What the lanes of a load share.

    :ivar size: of a message, in bytes.
    :ivar window: how many messages of a lane may be on the way.
    :ivar interval: nanoseconds between two messages of all lanes together; 0: each answer makes room
        for the next message, at once.
    :ivar timeout: after how many nanoseconds a datagram is lost.
    :ivar ended: told when a lane has failed.
    :ivar latencies: of the messages answered, in nanoseconds, since this was last emptied.
    :ivar wrong: what was wrong with datagrams that came back changed, since this was last emptied.
    :ivar lost: datagrams that did not come back in time.
    :ivar late: those of them that came back after all.
    :ivar pattern: random bytes that repeat after `PERIOD`; whatever is sent or expected is one slice of it.
    """

    reactor: Any
    size: int
    window: int
    interval: float
    timeout: int
    ended: Callable[[TargetError], None]
    latencies: list[int] = field(default_factory=list)
    wrong: list[TargetError] = field(default_factory=list)
    lost: int = 0
    late: int = 0
    pattern: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        longest = max(self.size, CHUNK)
        self.pattern = os.urandom(PERIOD) * (1 + -(-longest // PERIOD))


class Lane(ABC):
    """One connection.

    :param index: which one this is, from 0.
    :ivar open: whether it can be used.
    :ivar waiting: messages that are due and not yet begun.
    :ivar paused: whether there is no room to send.
    """

    open = False
    paused = False

    def __init__(self, traffic: Traffic, index: int) -> None:
        self._traffic = traffic
        self._index = index
        self._latencies = traffic.latencies
        self._pattern = traffic.pattern
        self._size = traffic.size
        self._window = traffic.window
        self._paced = traffic.interval > 0
        self._first_due, self._step = 0, 0.0
        self._steady = not self._paced  # an answer makes room for the next message
        self._begun = 0
        self.waiting = 0
        self.closed: Deferred[None] = Deferred()

    @property
    @abstractmethod
    def unanswered(self) -> int:
        """Messages that are due and have not come back."""

    @abstractmethod
    def pump(self, now: int) -> None:
        """Send what is due, as far as the window and the kernel allow."""

    @abstractmethod
    def close(self) -> None:
        """Close it; `closed` fires when that is done."""

    @abstractmethod
    def expire(self, now: int) -> None:
        """Give up what has been on the way for too long, where that can be told."""

    def wind_down(self) -> None:
        """Begin nothing that nobody waits for: in a closed loop, no message at all."""
        if not self._paced:
            self._steady = False
            self.waiting = 0

    def add(self, count: int, now: int) -> None:
        """*count* more messages are due."""
        self.waiting += count
        if not self.paused:
            self.pump(now)

    def _answered(self, count: int, now: int) -> None:
        """*count* messages are off the road, which makes room for others."""
        if self._steady:
            self.waiting += count
        if self.waiting and not self.paused:
            self.pump(now)

    def schedule(self, begin: int, turn: int, stride: int) -> None:
        """When this lane's messages are due: it has the *turn* th, from 0, of every *stride* messages.

        :param begin: when the first message of all lanes is due, as `time.monotonic_ns` counts.
        """
        interval = self._traffic.interval
        self._first_due = begin + int(turn * interval)
        self._step = stride * interval


@implementer(IPushProducer, IQuiet)
class StreamLane(Lane, Protocol):
    """A TCP, UNIX or TLS connection."""

    def __init__(self, traffic: Traffic, index: int) -> None:
        super().__init__(traffic, index)
        self._on_the_way: deque[int] = deque()  # when each message that was begun was due
        self._send_place = self._receive_place = index * APART % PERIOD
        self._unsent = 0  # bytes of the messages begun
        self._received = 0  # bytes of the oldest message on the way
        self._answered_bytes = 0
        self._batch = max(1, CHUNK // traffic.size)

    @property
    @override
    def unanswered(self) -> int:
        return self.waiting + len(self._on_the_way)

    @override
    def connectionMade(self) -> None:
        self.open = True
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]  # connected
        self._write: Callable[[bytes], None] = self.transport.write  # type: ignore[union-attr]

    @override
    def dataReceived(self, data: bytes) -> None:
        now = monotonic_ns()
        place, length = self._receive_place, len(data)
        if data != self._pattern[place : place + length]:
            self._differ(data)
            return
        self._receive_place = (place + length) % PERIOD
        if (
            length == self._size
            and self._steady
            and not (self._received or self._unsent or self.waiting or self.paused)
        ):
            # One message, for which another can go at once: what is below and in `pump`, for this alone.
            on_the_way = self._on_the_way
            if on_the_way:
                self._answered_bytes += length
                self._latencies.append(now - on_the_way.popleft())
                on_the_way.append(now)
                place = self._send_place
                self._send_place = (place + length) % PERIOD
                self._write(self._pattern[place : place + length])
                return
        received = self._received + length
        size, on_the_way = self._size, self._on_the_way
        if received > len(on_the_way) * size - self._unsent:
            after = self._answered_bytes + len(on_the_way) * size - self._unsent
            self._fail(TargetError("mismatch", f"after byte {after}: more came back than was sent"))
            return
        if received < size:
            self._received = received
            return
        count, self._received = divmod(received, size)
        self._answered_bytes += count * size
        if count == 1:
            self._latencies.append(now - on_the_way.popleft())
        else:
            self._latencies.extend([now - on_the_way.popleft() for _ in range(count)])
        self._answered(count, now)

    @override
    def pump(self, now: int) -> None:
        on_the_way = self._on_the_way
        while not self.paused and self.open:
            if not self._unsent:
                count = self.waiting
                if count > 1:
                    count = min(count, self._batch)
                count = min(count, self._window - len(on_the_way))
                if count <= 0:
                    return
                if self._paced:
                    begun = self._begun
                    self._begun = after = begun + count
                    for number in range(begun, after):
                        on_the_way.append(self._first_due + int(number * self._step))
                else:
                    on_the_way.extend(repeat(now, count))
                self.waiting -= count
                self._unsent = count * self._size
            length = self._unsent if self._unsent <= CHUNK else CHUNK
            place = self._send_place
            self._send_place = (place + length) % PERIOD
            self._unsent -= length
            self._write(self._pattern[place : place + length])

    def pauseProducing(self) -> None:
        """`IPushProducer.pauseProducing`: the kernel takes no more."""
        self.paused = True

    def resumeProducing(self) -> None:
        """`IPushProducer.resumeProducing`: there is room again."""
        self.paused = False
        self.pump(monotonic_ns())

    def stopProducing(self) -> None:
        """`IProducer.stopProducing`: the connection is lost, which `connectionLost` is told as well."""

    @override
    def connectionLost(self, reason: Failure = Failure(CONNECTION_DONE)) -> None:  # noqa: B008  # Twisted's
        error = reason.value
        if not isinstance(error, TargetError):
            error = TargetError("closed", f"by the other side, with {self.unanswered} messages unanswered")
        self._failed(error)
        self.closed.callback(None)

    @override
    def expire(self, now: int) -> None:
        pass  # a stream comes back in order: what is late holds up the rest, and shows in its latency

    def _fail(self, error: TargetError) -> None:
        self._failed(error)
        self.transport.abortConnection()  # type: ignore[union-attr]  # connected

    def _failed(self, error: TargetError) -> None:
        if self.open:
            self.open = False
            self._traffic.ended(error)

    @override
    def close(self) -> None:
        if self.open:
            self.open = False
            transport: Any = self.transport
            transport.unregisterProducer()
            if self._on_the_way:
                transport.abortConnection()
            else:
                transport.loseConnection()

    def _differ(self, data: bytes) -> None:
        wanted = self._pattern[self._receive_place :]
        offset = next(n for n, byte in enumerate(data) if byte != wanted[n])
        at = self._answered_bytes + self._received + offset
        detail = f"at byte {at}: expected {wanted[offset]:#04x}, got {data[offset]:#04x}"
        self._fail(TargetError("mismatch", detail, {"offset": at}))


@implementer(IReadWriteDescriptor, IQuiet)
class DatagramLane(Lane):
    """A connected UDP socket.

    :ivar quiet: see `suite.engine.interfaces`.
    :raises TargetError: the socket cannot be opened.
    """

    quiet = True

    def __init__(self, traffic: Traffic, index: int, address: Address) -> None:
        super().__init__(traffic, index)
        try:
            self._socket = socket.socket(address.family, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.connect(address.address)
        except OSError as error:
            raise from_errno(error.errno or 0) from None
        self._on_the_way: dict[int, tuple[int, int]] = {}  # by number: when it was due, and sent
        self._lost: set[int] = set()
        self.open = True
        traffic.reactor.addReader(self)

    @property
    @override
    def unanswered(self) -> int:
        return self.waiting + len(self._on_the_way)

    def _datagram(self, number: int) -> bytes:
        rest = self._size - NUMBER_SIZE
        place = (self._index * APART + number * rest) % PERIOD
        head = (self._index << LANE_SHIFT | number).to_bytes(NUMBER_SIZE, "big")
        return head + self._pattern[place : place + rest]

    def doRead(self) -> None:
        """`IReadDescriptor.doRead`: some datagrams have come."""
        receive, on_the_way, fresh = self._socket.recv, self._on_the_way, 0
        now = monotonic_ns()
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data = receive(65_536)
            except BlockingIOError:
                break
            except OSError as error:
                self._fail(from_errno(error.errno or 0))
                return
            number = int.from_bytes(data[:NUMBER_SIZE], "big") - (self._index << LANE_SHIFT)
            if number in on_the_way:
                due, _ = on_the_way.pop(number)
                fresh += 1
                if data == self._datagram(number):
                    self._latencies.append(now - due)
                    continue
            elif number in self._lost:
                self._lost.discard(number)
                self._traffic.late += 1
                continue
            self._traffic.wrong.append(self._difference(data, number))
        self._answered(fresh, now)

    def _difference(self, data: bytes, number: int) -> TargetError:
        """What is wrong with *data*, which says that it is *number*."""
        if not 0 <= number < self._begun:
            return TargetError("mismatch", f"a datagram of {len(data)} bytes that was never sent")
        wanted = self._datagram(number)
        if data == wanted:
            return TargetError("mismatch", f"datagram {number} came back twice")
        if len(data) != len(wanted):
            return TargetError(
                "mismatch", f"datagram {number} came back with {len(data)} bytes; expected {len(wanted)}"
            )
        at = next(n for n, byte in enumerate(data) if byte != wanted[n])
        detail = f"datagram {number}, at byte {at}: expected {wanted[at]:#04x}, got {data[at]:#04x}"
        return TargetError("mismatch", detail, {"offset": at})

    @override
    def pump(self, now: int) -> None:
        on_the_way, window, send = self._on_the_way, self._window, self._socket.send
        while self.open and self.waiting and len(on_the_way) < window:
            number = self._begun
            try:
                send(self._datagram(number))
            except BlockingIOError:
                self.paused = True
                self._traffic.reactor.addWriter(self)
                return
            except OSError as error:
                self._fail(from_errno(error.errno or 0))
                return
            due = self._first_due + int(number * self._step) if self._paced else now
            on_the_way[number] = due, now
            self._begun += 1
            self.waiting -= 1

    def doWrite(self) -> None:
        """`IWriteDescriptor.doWrite`: there is room again."""
        self.paused = False
        self._traffic.reactor.removeWriter(self)
        self.pump(monotonic_ns())

    @override
    def expire(self, now: int) -> None:
        expired = []
        for number, (_, sent) in self._on_the_way.items():  # in the order of sending
            if now - sent < self._traffic.timeout:
                break
            expired.append(number)
        if expired:
            for number in expired:
                del self._on_the_way[number]
            self._lost.update(expired)
            self._traffic.lost += len(expired)
            self._answered(len(expired), now)

    def _fail(self, error: TargetError) -> None:
        if self.open:
            self.close()
            self._traffic.ended(error)

    @override
    def close(self) -> None:
        if self.open:
            self.open = False
            reactor = self._traffic.reactor
            reactor.removeReader(self)
            reactor.removeWriter(self)
            self._socket.close()
            self.closed.callback(None)

    def fileno(self) -> int:
        """`IFileDescriptor.fileno`; -1 when it is closed."""
        return self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002  # the socket knows better
        """The poller has seen an error, or the reactor ends."""
        if self.open:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._fail(from_errno(number) if number else TargetError("closed", "the socket is gone"))

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "lane"


class Opener:
    """Opens lanes to one target; the first one finds out where that is.

    :param dialer: connects to it.
    """

    def __init__(self, traffic: Traffic, dialer: Dialer) -> None:
        self._traffic = traffic
        self._dialer = dialer
        self._address: Address | None = None

    async def open(self, index: int) -> Lane:
        """Open lane *index*.

        :raises TargetError: it cannot be.
        """
        if self._dialer.target.transport == "udp":
            if self._address is None:
                self._address = await self._greeted()
            return DatagramLane(self._traffic, index, self._address)
        connected = await self._dialer.connect(None if self._address is None else [self._address])
        self._address = connected.address
        lane = StreamLane(self._traffic, index)
        await self._dialer.adopt(connected, lane)
        return lane

    async def _greeted(self) -> Address:
        """Where datagrams come back from: a name may have an address at which nobody listens."""
        answer: Deferred[Address] = Deferred()

        def received(_data: bytes) -> None:
            if not answer.called:
                answer.callback(datagrams.address)

        def failed(error: TargetError) -> None:
            if not answer.called:
                answer.errback(error)

        def refused(failure: Failure) -> None:
            failure.trap(TargetError)
            failed(cast(TargetError, failure.value))

        dialer, timeout = self._dialer, self._dialer.options.timeout
        datagrams = await dialer.datagrams(received, failed)
        hello = LoopingCall(datagrams.send, os.urandom(self._traffic.size))
        hello.clock = dialer.reactor
        hello.start(timeout / HELLOS).addErrback(refused)
        late = TargetError("lost", f"no datagram came back within {timeout:g} s")
        try:
            return await within(dialer.reactor, timeout, late, answer)
        finally:
            if hello.running:
                hello.stop()
            datagrams.close()
