"""Load over a UDP socket.

Rules: each datagram begins with its number, by which its echo is recognized, in whatever order echoes arrive.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.addresses import Address
from suite.client.dial.datagrams import DATAGRAMS_PER_TURN
from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.sockets import open_socket
from suite.client.load.schedule import WARM
from suite.client.load.stats import AddressStats
from suite.client.load.traffic import APART, PERIOD, LoadConnection, Traffic
from suite.engine.interfaces import Selectable

#: Size in bytes of the number that a datagram begins with.
NUMBER_SIZE: Final = 8

#: Lost datagrams that a connection remembers, to recognize those that come late; older ones are ignored.
MAX_REMEMBERED: Final = 65_536

#: Bits of that number that count the messages of a connection; the bits above hold the connection's index.
CONNECTION_SHIFT: Final = 40


@implementer(IReadWriteDescriptor)
class LoadDatagrams(LoadConnection, Selectable):
    """A connected UDP socket that sends the datagrams of a load.

    :raises TargetError: the socket cannot be opened.
    """

    needs_log_context = False

    def __init__(
        self,
        traffic: Traffic,
        stats: AddressStats,
        index: int,
        address: Address,
        source: str | None = None,
    ) -> None:
        super().__init__(traffic, stats, index)
        try:
            self._socket = open_socket(address.family, socket.SOCK_DGRAM, source)
            self._socket.connect(address.address)
        except OSError as error:
            raise from_errno(error.errno or 0) from None
        self._in_flight: dict[int, tuple[int, int]] = {}  # number: (when it was due, when it was sent)
        self._lost: OrderedDict[int, int] = OrderedDict()  # number: when it was due
        self._forgotten = -1  # the last number that `_lost` has dropped
        self._answered_any = False
        self.open = True
        traffic.reactor.addReader(self)

    @property
    @override
    def answered_any(self) -> bool:
        return self._answered_any

    @property
    @override
    def unanswered(self) -> int:
        return self.waiting + len(self._in_flight)

    @override
    def _dues(self) -> Iterable[int]:
        return [due for due, _ in self._in_flight.values()]

    @override
    def begin_measuring(self) -> None:
        self._in_flight = {number: (WARM, sent) for number, (_, sent) in self._in_flight.items()}
        self._lost = OrderedDict.fromkeys(self._lost, WARM)

    @override
    def _forget(self) -> None:
        self._in_flight.clear()

    def _datagram(self, number: int) -> bytes:
        rest = self._size - NUMBER_SIZE
        offset = (self.index * APART + number * rest) % PERIOD
        head = (self.index << CONNECTION_SHIFT | number).to_bytes(NUMBER_SIZE, "big")
        return head + self._pattern[offset : offset + rest]

    def doRead(self) -> None:
        """`IReadDescriptor.doRead`: datagrams have arrived."""
        receive, in_flight, fresh = self._socket.recv, self._in_flight, 0
        now = self._clock()
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data = receive(65_536)
            except BlockingIOError:
                break
            except OSError as error:
                self._fail(from_errno(error.errno or 0))
                return
            number = int.from_bytes(data[:NUMBER_SIZE], "big") - (self.index << CONNECTION_SHIFT)
            if number in in_flight:
                due, _ = in_flight.pop(number)
                fresh += 1
                if data == self._datagram(number):
                    self._latencies.append(now - due)
                    continue
                self.stats.changed += due != WARM
            elif number in self._lost:
                self.stats.late += self._lost.pop(number) != WARM
                continue
            elif 0 <= number <= self._forgotten:
                continue
            self.stats.wrong.append(self._difference(data, number))
        if fresh:
            self._answered_any = True
        self._answered(fresh, now)

    def _difference(self, data: bytes, number: int) -> TargetError:
        """The error in *data*, a datagram that claims to be *number*."""
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
        in_flight, window, send = self._in_flight, self._window, self._socket.send
        while self.open and self.waiting and len(in_flight) < window:
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
            due = self._due(number) if self._paced else now
            in_flight[number] = due, now
            self._begun += 1
            self.waiting -= 1

    def doWrite(self) -> None:
        """`IWriteDescriptor.doWrite`: the send buffer has room again."""
        self.paused = False
        self._traffic.reactor.removeWriter(self)
        self.pump(self._clock())

    @override
    def expire(self, now: int) -> None:
        expired = []
        for number, (_, sent) in self._in_flight.items():  # in the order of sending
            if now - sent < self._traffic.timeout:
                break
            expired.append(number)
        if expired:
            for number in expired:
                due, _ = self._in_flight.pop(number)
                self._lost[number] = due
                if len(self._lost) > MAX_REMEMBERED:
                    self._forgotten, _ = self._lost.popitem(last=False)
                if due != WARM:
                    self.stats.lose(due)
            self._answered(len(expired), now)

    def _fail(self, error: TargetError) -> None:
        if self.open:
            self.close()
            self._traffic.ended(self, error)

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
        """`IFileDescriptor.fileno`; -1 when closed."""
        return self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002  # the socket has the error
        """The socket has an error, or the reactor stops."""
        if self.open:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._fail(from_errno(number) if number else TargetError("closed", "the socket is gone"))

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "load"
