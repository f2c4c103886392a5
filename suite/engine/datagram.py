"""UDP in bounded turns, and in batches where the kernel can.

Rules: no datagram is truncated; at most `DATAGRAMS_PER_TURN` (in batches: messages, each of which may be a
train) are received before every other descriptor has its turn; a reply that the kernel refuses is a lost
datagram, never an error.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from socket import AF_INET6, socket
from typing import Any, Final, cast

from twisted.internet import udp
from twisted.internet.base import BasePort
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from suite.engine.binding import ClosesOnBindFailure
from suite.engine.interfaces import IEchoesDatagrams, INeedsNoLogContext, Selectable
from suite.engine.linux.mmsg import MultipleMessages, accept_trains

log = Logger()

#: Bytes of buffer for a datagram: more than any UDP payload (65,507 bytes over IPv4, 65,527 over IPv6).
DATAGRAM_BUFFER_SIZE: Final = 65_535

#: Twisted's limit is 256 KiB a turn, which a flood of empty datagrams never reaches.
DATAGRAMS_PER_TURN: Final = 64

#: Results of a send that mean that no other send would succeed now either.
FULL: Final = frozenset({-errno.EAGAIN, -errno.ENOBUFS})


class DatagramPort(ClosesOnBindFailure, udp.Port, Selectable):
    """A UDP port.

    :ivar lost: the number of replies that the kernel refused.
    """

    lost = 0
    _owns_socket = True
    _detached = False

    @classmethod
    def on(cls, sock: socket, protocol: DatagramProtocol, reactor: Any, maxPacketSize: int) -> DatagramPort:
        """A port that receives on *sock*, which is bound, until `detach`; it never closes the socket."""
        name = sock.getsockname()
        port = cls(name[1], protocol, name[0], maxPacketSize, reactor)
        port._owns_socket = False  # of this class
        port._preexistingSocket = cast(Any, sock)  # Twisted's annotation says None
        port.startListening()
        return port

    def detach(self) -> None:
        """Stop receiving on a socket given to `on`; it stays open, and its queue waits."""
        self.stopReading()
        self._detached = True
        self.connectionLost()

    # The reactor knows selectables by descriptor, and this one's may be another port's by now.

    @override
    def stopReading(self) -> None:
        if not self._detached:
            super().stopReading()

    @override
    def stopWriting(self) -> None:
        """Do nothing: a port never writes."""

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._owns_socket:
            super().connectionLost(reason)
            return
        BasePort.connectionLost(self, reason)
        self.protocol.doStop()
        del self.socket, self.fileno

    @override
    def startListening(self) -> None:
        self.needs_log_context = not INeedsNoLogContext.providedBy(self.protocol)
        super().startListening()

    @override
    def doRead(self) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, address = self.socket.recvfrom(self.maxPacketSize)
            except OSError:
                return  # none left, or an ICMP error about an earlier reply
            if self.addressFamily == AF_INET6:
                address = address[:2]  # as Twisted's ports pass it
            try:
                self.protocol.datagramReceived(data, address)
            except Exception:  # noqa: BLE001  # one datagram must not close the port
                log.failure("datagram from {address} failed", address=address)
            if not self.connected:
                return

    @override
    def write(self, datagram: bytes, addr: Any = None) -> None:
        try:
            super().write(datagram, addr)
        except OSError:
            self.lost += 1


class EchoPort(DatagramPort):
    """A UDP port for an `IEchoesDatagrams`: sends datagrams back in batches, from their own buffers."""

    @override
    def startListening(self) -> None:
        self._messages = MultipleMessages(DATAGRAMS_PER_TURN, DATAGRAM_BUFFER_SIZE, self.addressFamily)
        super().startListening()
        accept_trains(self.socket)

    @override
    def doRead(self) -> None:
        messages = self._messages
        fd = self.fileno()
        taken = 0
        # After one batch another has often arrived; receiving again is cheaper than another turn.
        while taken < DATAGRAMS_PER_TURN:
            count = messages.receive(fd, DATAGRAMS_PER_TURN - taken)
            if not count:
                return
            taken += count
            sources = messages.sources(count)
            if self.protocol.answers(sources):
                self._send(fd, 0, count)
            else:
                self._send_admitted(fd, sources)

    def _send_admitted(self, fd: int, sources: Sequence[bytes]) -> None:
        start = 0  # of a run of messages to send in one call
        for index, source in enumerate(sources):
            if self._messages.is_train(index):  # each datagram of it is decided
                self._send(fd, start, index)
                self._send_train(fd, index, source)
            elif self.protocol.refuses(source):
                self._send(fd, start, index)
            else:
                continue
            start = index + 1
        self._send(fd, start, len(sources))

    def _send(self, fd: int, start: int, stop: int) -> None:
        messages = self._messages
        while start < stop:
            sent = messages.send(fd, start, stop)
            if sent > 0:
                start += sent
            elif sent in FULL:  # the others would fail, too
                self.lost += sum(len(messages.datagrams(index)) for index in range(start, stop))
                return
            else:
                if messages.is_train(start):  # not every route can send trains
                    self._send_train(fd, start)
                else:
                    self.lost += 1
                start += 1

    def _send_train(self, fd: int, index: int, source: bytes | None = None) -> None:
        """Send the datagrams of the train at *index* one by one.

        :param source: the source to check before each datagram; None if they are all admitted.
        """
        for start, length in self._messages.datagrams(index):
            if source is not None and self.protocol.refuses(source):
                continue
            if self._messages.send_datagram(fd, index, start, length) < 0:
                self.lost += 1


def port_class_for(protocol: object) -> type[DatagramPort]:
    """The fastest class of port for *protocol* on this system."""
    if IEchoesDatagrams.providedBy(protocol) and MultipleMessages.available():
        return EchoPort
    return DatagramPort
