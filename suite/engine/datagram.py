"""UDP in bounded turns, and in batches where the kernel can.

Rules: no datagram is cut short; at most `DATAGRAMS_PER_TURN` are taken before every other
descriptor has had its turn; a reply that the kernel refuses is a lost datagram, never an error.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from socket import AF_INET6
from typing import Any, Final

from twisted.internet import udp
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import Interface

from suite.engine.careful import CarefulPort
from suite.engine.mmsg import MultipleMessages
from suite.engine.quiet import IQuiet

log = Logger()

#: More than any UDP payload (65,507 bytes over IPv4, 65,527 over IPv6).
MAX_DATAGRAM: Final = 65_535

#: Twisted stops after 256 KiB, which a flood of empty datagrams never reaches.
DATAGRAMS_PER_TURN: Final = 64


class IEchoesDatagrams(Interface):
    """A datagram protocol that answers a datagram with the same datagram, or not at all."""

    def refused(sources: Sequence[bytes]) -> Sequence[int]:  # noqa: N805  # as zope.interface has it
        """Which of some datagrams get no answer: the places, in order, of their sources among *sources*.

        A source is a packed ``sockaddr``.
        """


class DatagramPort(CarefulPort, udp.Port):
    """A UDP port.

    :ivar lost: replies that the kernel has refused.
    """

    lost = 0

    @override
    def startListening(self) -> None:
        self.quiet = IQuiet.providedBy(self.protocol)
        super().startListening()

    @override
    def doRead(self) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, address = self.socket.recvfrom(self.maxPacketSize)
            except OSError:
                return  # none left, or an ICMP error about an earlier reply
            if self.addressFamily == AF_INET6:
                address = address[:2]  # as Twisted's ports give it
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
    """A UDP port for an `IEchoesDatagrams`: what arrives goes back from where it lies, in batches."""

    @override
    def startListening(self) -> None:
        self._messages = MultipleMessages(DATAGRAMS_PER_TURN, MAX_DATAGRAM, self.addressFamily)
        super().startListening()

    @override
    def doRead(self) -> None:
        messages = self._messages
        fd = self.fileno()
        taken = 0
        # Where one batch has come, another is likely to have come meanwhile: to ask is cheaper than a turn.
        while taken < DATAGRAMS_PER_TURN:
            count = messages.receive(fd, DATAGRAMS_PER_TURN - taken)
            if not count:
                return
            taken += count
            start = 0  # of a run that goes back in one call
            for index in self.protocol.refused(messages.sources(count)):
                self._send(fd, start, index)
                start = index + 1
            self._send(fd, start, count)

    def _send(self, fd: int, start: int, stop: int) -> None:
        while start < stop:
            sent = self._messages.send(fd, start, stop)
            if sent < 0:  # the first of them cannot be sent; when none can, there is no point in trying
                full = sent in (-errno.EAGAIN, -errno.ENOBUFS)
                sent = stop - start if full else 1
                self.lost += sent
            start += sent


def port_class_for(protocol: object) -> type[DatagramPort]:
    """The kind of port that serves *protocol* best on this system."""
    if IEchoesDatagrams.providedBy(protocol) and MultipleMessages.available():
        return EchoPort
    return DatagramPort
