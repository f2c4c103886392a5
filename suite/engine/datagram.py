"""UDP in bounded turns, and in batches where the kernel can.

Rules: no datagram is truncated; at most `DATAGRAMS_PER_TURN` (in batches `BATCHED_PER_TURN`, and the rest of
the message that reaches it) are answered before every other descriptor has its turn, however they are packed
into messages; a reply leaves from the address that the datagram was sent to, at once or later; a reply that
the kernel refuses is a lost datagram, never an error.
"""

from __future__ import annotations

import errno
import socket
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from twisted.internet import udp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import BasePort
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from suite.engine.binding import ClosesOnBindFailure, Detachable, with_scope
from suite.engine.destination import (
    CONTROL_SIZE,
    ControlMessage,
    destination,
    report_destinations,
    report_no_errors,
)
from suite.engine.interfaces import IEchoesDatagrams, INeedsNoLogContext, Selectable
from suite.engine.linux.mmsg import MultipleMessages, accept_trains, split_train
from suite.engine.traffic import Traffic

log = Logger()

#: Bytes of buffer for a datagram: more than any UDP payload (65,507 bytes over IPv4, 65,527 over IPv6).
DATAGRAM_BUFFER_SIZE: Final = 65_535

#: Twisted's limit is 256 KiB a turn, which a flood of empty datagrams never reaches.
DATAGRAMS_PER_TURN: Final = 64

#: Maximum number of messages that one call receives or sends.
BATCH: Final = 64

#: The same as `DATAGRAMS_PER_TURN`, in batches, where a datagram costs less. A full batch of messages of two
#: datagrams each still fits.
BATCHED_PER_TURN: Final = 128

#: One batch in so many is looked at, in search of loops (see `suite.guard.datagrams`); a prime.
LOOK_EVERY: Final = 8191

#: Datagrams that are dropped in one go at the most: more than any receive buffer holds. A flood has no end.
LONGEST_QUEUE: Final = 65_536

#: Results of a send that mean that no other send would succeed now either.
FULL: Final = frozenset({-errno.EAGAIN, -errno.ENOBUFS})

#: Results of a send that a filter of system calls may have made; a firewall answers EPERM, too.
FORBIDDEN: Final = frozenset({-errno.ENOSYS, -errno.EPERM, -errno.EACCES})


def drop_what_waits(sock: socket.socket) -> None:
    """Drop the datagrams that wait in the receive buffer of *sock*, which does not block."""
    for _ in range(LONGEST_QUEUE):
        try:
            sock.recv(1)  # the rest of it is dropped, too
        except BlockingIOError:
            return
        except OSError:  # an ICMP error about an earlier reply
            continue


class DatagramPort(ClosesOnBindFailure, Detachable, udp.Port, Selectable):
    """A UDP port.

    :ivar lost: the number of replies that the kernel refused.
    :ivar traffic: what has come and gone: the ``traffic`` of the protocol, if it has one.
    :ivar sent_to_many: whether the datagram that the protocol is receiving was sent to a broadcast or
        multicast address.
    """

    lost = 0
    sent_to_many = False
    #: The control messages of the datagram that the protocol is receiving.
    control: Sequence[ControlMessage] = ()

    #: Whether the socket reports destinations.
    _destinations = False
    #: Whether the socket may receive trains (see `suite.engine.linux.mmsg`).
    _trains = False
    #: Where the datagram that the protocol is receiving came from, and what makes a reply to it leave from
    #: where it was sent to.
    _answering: tuple[Any, Sequence[ControlMessage]] | None = None

    @classmethod
    def on(
        cls,
        sock: socket.socket,
        protocol: DatagramProtocol,
        reactor: Any,
        maxPacketSize: int = DATAGRAM_BUFFER_SIZE,
    ) -> Self:
        """A port that receives on *sock* until `detach`; it never closes the socket.

        Family and address are those of the socket, which is non-blocking from now on, as are its duplicates.

        :param sock: a bound UDP socket that is not connected.
        """
        sock.setblocking(False)
        name = sock.getsockname()
        port = cls(name[1], protocol, name[0], maxPacketSize, reactor)
        port._owns_socket = False  # of this class
        port._preexistingSocket = cast(Any, sock)  # Twisted's annotation says None
        port.startListening()
        return port

    @override
    def getHost(self) -> IPv4Address | IPv6Address:
        name = with_scope(self.socket.getsockname())
        kind = IPv6Address if self.addressFamily == socket.AF_INET6 else IPv4Address
        return kind("UDP", *name[:2])

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._owns_socket:
            super().connectionLost(reason)
            return
        if self._trains:
            accept_trains(self.socket, False)  # another port may not know them
        BasePort.connectionLost(self, reason)
        self.protocol.doStop()
        del self.socket, self.fileno

    @override
    def startListening(self) -> None:
        self.needs_log_context = not INeedsNoLogContext.providedBy(self.protocol)
        self.traffic: Traffic = getattr(self.protocol, "traffic", None) or Traffic()
        super().startListening()

    @override
    def _bindSocket(self) -> None:
        if self._owns_socket:
            super()._bindSocket()
        else:  # the same, but for the line that Twisted logs of each port
            sock, self._preexistingSocket = cast(Any, self._preexistingSocket), None
            self._realPortNumber = self.port
            self.connected, self.socket = True, sock
            self.fileno = sock.fileno  # type: ignore[method-assign]  # as in Twisted's ports
            report_no_errors(sock)
        # Before anything is received: what has arrived without this has no destination.
        self._destinations = report_destinations(self.socket)
        self._trains = accept_trains(self.socket)

    @override
    def doRead(self) -> None:
        left = DATAGRAMS_PER_TURN
        while left > 0:
            control: Sequence[ControlMessage] = ()
            try:
                if self._destinations or self._trains:
                    data, control, _flags, address = self.socket.recvmsg(self.maxPacketSize, CONTROL_SIZE)
                else:
                    data, address = self.socket.recvfrom(self.maxPacketSize)
            except OSError:
                return  # none left, or an ICMP error about an earlier reply
            if self.addressFamily == socket.AF_INET6:
                address = address[:2]  # as Twisted's ports pass it
            if self._destinations:
                self.sent_to_many, reply = destination(control)
                self._answering = None if reply is None else (address, [reply])
            self.control = control
            for datagram in split_train(data, control) if self._trains else [data]:
                left -= 1
                self.traffic.came += 1
                self.traffic.bytes_came += len(datagram)
                try:
                    self.protocol.datagramReceived(datagram, address)
                except Exception:  # noqa: BLE001  # one datagram must not close the port
                    log.failure("datagram from {address} failed", address=address)
                if not self.connected:
                    return
            self._answering = None

    def keep_reply(self, addr: Any) -> Reply:
        """A way to answer later the datagram from *addr* that the protocol is receiving."""
        answering = self._answering
        control = answering[1] if answering is not None and answering[0] == addr else ()
        return Reply(self, self.socket, addr, control)

    @override
    def write(self, datagram: bytes, addr: Any = None) -> None:
        try:
            if self._answering is not None and self._answering[0] == addr:
                sent: int | None = self.socket.sendmsg([datagram], self._answering[1], 0, addr)
            else:
                sent = cast(Any, super()).write(datagram, addr)
        except OSError:
            sent = None
        self._note_sent(sent)

    def _note_sent(self, sent: int | None) -> None:
        """A reply of *sent* bytes has gone; None: the kernel refused it."""
        if sent is None:
            self.lost += 1
            self.traffic.lost += 1
        else:
            self.traffic.went += 1
            self.traffic.bytes_went += sent


@dataclass(frozen=True, slots=True)
class Reply:
    """A way to answer a datagram at any time, from the address that it was sent to.

    It works for as long as the socket is open, whichever port is on it then.
    """

    _port: DatagramPort
    _sock: socket.socket
    _address: Any
    _control: Sequence[ControlMessage]

    def send(self, datagram: bytes) -> None:
        """Send *datagram*; if the kernel refuses it, or the socket is closed, it is lost."""
        try:
            sent: int | None = self._sock.sendmsg([datagram], self._control, 0, self._address)
        except OSError:
            sent = None
        self._port._note_sent(sent)  # noqa: SLF001  # of this module


class EchoPort(DatagramPort):
    """A UDP port for an `IEchoesDatagrams`: sends datagrams back in batches, from their own buffers."""

    #: The call that answers, in the next turn, the messages received but not answered in this one.
    _next_turn: IDelayedCall | None = None
    #: Which ones: from the first to before the last.
    _kept = (0, 0)
    #: Batches left until one is looked at.
    _until_look = LOOK_EVERY

    def _make_messages(self) -> MultipleMessages:
        self._messages = MultipleMessages(
            BATCH, DATAGRAM_BUFFER_SIZE, self.addressFamily, destinations=self._destinations
        )
        return self._messages

    @override
    def doRead(self) -> None:
        if self._next_turn is not None:
            return  # what has been received comes first
        try:
            messages = self._messages
        except AttributeError:  # the first datagram: many ports of a large suite may never see one
            messages = self._make_messages()
        fd = self.fileno()
        left = BATCHED_PER_TURN
        most = BATCH
        # After one batch another has often arrived; receiving again is cheaper than another turn.
        while most > 0:
            count = messages.receive(fd, most)
            if not count:
                if most == BATCH and not MultipleMessages.available():
                    self._do_without()
                    self.doRead()
                return
            most -= count
            if messages.any_trains:
                left = self._answer_trains(fd, 0, count, left)
                most = min(most, left * count // messages.totals(count)[count])  # if the next are like these
            else:
                traffic = self.traffic
                traffic.echoed += count
                traffic.bytes_echoed += messages.size(0, count)
                self._answer(fd, 0, count, messages.sources(count))
                left -= count

    def _answer_trains(self, fd: int, start: int, count: int, left: int) -> int:
        """Answer the messages from *start* to before *count*, until they were *left* datagrams.

        What remains then is for the next turn. Returns how many datagrams are left.
        """
        totals = self._messages.totals(count)
        stop = count
        if totals[count] - totals[start] > left:
            stop = bisect_left(totals, totals[start] + left, start + 1, count)
        datagrams = totals[stop] - totals[start]
        left -= datagrams
        self.traffic.echoed += datagrams
        self.traffic.bytes_echoed += self._messages.size(start, stop)
        if stop < count:
            self._kept = (stop, count)
            self._next_turn = cast(IReactorTime, self.reactor).callLater(0, self._go_on)
        self._answer(fd, start, stop, self._messages.sources(stop)[start:])
        return left

    def _go_on(self) -> None:
        self._next_turn = None
        self._answer_trains(self.fileno(), *self._kept, BATCHED_PER_TURN)

    def _answer(self, fd: int, start: int, stop: int, sources: Sequence[bytes]) -> None:
        """Answer the messages from *start* to before *stop*, which are from *sources*."""
        messages = self._messages
        self._until_look -= 1
        if not self._until_look:
            self._until_look = LOOK_EVERY
            for index, source in enumerate(sources, start):
                if self.protocol.goes_round(source, messages.message(index)):
                    self.traffic.keep(messages.count_datagrams(index), messages.size(index, index + 1))
                    self._send_admitted(fd, start, index, sources)
                    self._answer(fd, index + 1, stop, sources[index + 1 - start :])
                    return
        if not messages.any_to_many and self.protocol.answers(sources):
            self._send(fd, start, stop)
        else:
            self._send_admitted(fd, start, stop, sources)

    def _send_admitted(self, fd: int, start: int, stop: int, sources: Sequence[bytes]) -> None:
        """Send those of the messages from *start* to before *stop* that the protocol answers."""
        messages = self._messages
        first = start  # of a run of messages to send in one call
        for index, source in zip(range(start, stop), sources, strict=False):
            count = messages.count_datagrams(index)
            admitted = self.protocol.admit(source, count, messages.to_many(index))
            if admitted == count:
                continue
            size = messages.size(index, index + 1)
            if not admitted:
                self._send(fd, first, index)
                first = index + 1
            else:
                messages.keep_first(index, admitted)
                size -= messages.size(index, index + 1)
            self.traffic.keep(count - admitted, size)
        self._send(fd, first, stop)

    def _send(self, fd: int, start: int, stop: int) -> None:
        messages = self._messages
        while start < stop:
            sent = messages.send(fd, start, stop)
            if sent > 0:
                start += sent
            elif sent in FULL:  # the others would fail, too
                self._lose(sum(map(messages.count_datagrams, range(start, stop))), messages.size(start, stop))
                return
            else:
                if messages.is_train(start):  # not every route can send trains
                    self._send_train(fd, start)
                else:
                    self._lose(1, messages.size(start, start + 1))
                    if sent in FORBIDDEN and not MultipleMessages.available():
                        self._do_without()
                start += 1

    def _send_train(self, fd: int, index: int) -> None:
        """Send the datagrams of the train at *index* one by one."""
        for start, length in self._messages.datagrams(index):
            if self._messages.send_datagram(fd, index, start, length) < 0:
                self._lose(1, length)

    def _lose(self, datagrams: int, size: int) -> None:
        """The kernel has refused *datagrams* with *size* bytes of a batch."""
        self.lost += datagrams
        self.traffic.lost += datagrams
        self.traffic.keep(datagrams, size)

    def _do_without(self) -> None:
        """Receive and send one by one from now on: a filter of system calls (seccomp(2)) forbids batches."""
        self.doRead = super().doRead  # type: ignore[method-assign]  # where the reactor looks it up

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._next_turn is not None:  # nobody else could answer what has been received
            start, count = self._kept
            self._next_turn.cancel()
            self._next_turn = None
            self._answer(self.fileno(), start, count, self._messages.sources(count)[start:])
        super().connectionLost(reason)


def port_class_for(protocol: object) -> type[DatagramPort]:
    """The fastest class of port for *protocol* on this system."""
    if IEchoesDatagrams.providedBy(protocol) and MultipleMessages.available():
        return EchoPort
    return DatagramPort
