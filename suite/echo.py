"""The heart: send every byte back.

Rules: one reply logic (`reply`) for every transport; the transport is its own producer, so a peer that does
not read is paused instead of buffered; a peer that closes its side receives the rest of its echo before
this side closes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from typing_extensions import override
from zope.interface import implementer

from suite.engine.interfaces import IEchoesDatagrams, INeedsNoLogContext, writes_back
from suite.faults.decide import Decider
from suite.faults.streams import FaultyStream
from suite.guard.datagrams import LOOK_EVERY, DatagramPolicy
from suite.guard.streams import Guard, Guarded
from suite.reasons import Reason


def reply(data: bytes) -> bytes:
    """The answer to *data*: the same bytes (RFC 862)."""
    return data


@implementer(IHalfCloseableProtocol, INeedsNoLogContext)
class Echo(Guarded):
    """Echo for every stream: TCP, TLS and UNIX.

    :cvar beyond: bytes written beside those received, less those received that are not sent back.
    """

    beyond = 0

    @property
    def written(self) -> int:  # type: ignore[override]  # nothing is counted for it
        """Bytes written: those received."""
        return self.received + self.beyond

    @override
    def connectionMade(self) -> None:
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            # Nagle's algorithm holds back the tail of a reply until the peer's delayed ACK: 40 ms.
            cast(Any, transport).setTcpNoDelay(True)
        cast(IConsumer, transport).registerProducer(cast(IPushProducer, transport), True)
        super().connectionMade()

    @override
    @writes_back
    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self.transport.write(reply(data))  # type: ignore[union-attr]  # connected, or no data

    @override
    def readConnectionLost(self) -> None:
        """The peer has closed its side: close once all of the echo is sent.

        While a producer is registered, an empty buffer would resume it instead of closing the connection.
        """
        super().readConnectionLost()
        cast(IConsumer, self.transport).unregisterProducer()
        cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        """Required by `IHalfCloseableProtocol`; nothing to do."""


class MeasuredEcho(Echo):
    """An echo that ends after a maximum number of bytes.

    :param most: the maximum number of bytes.
    """

    def __init__(self, guard: Guard, most: int) -> None:
        super().__init__(guard)
        self.most = most

    @override
    def dataReceived(self, data: bytes) -> None:
        left = self.most - self.received
        if left > 0:
            super().dataReceived(data[:left])
            if self.received == self.most:
                self.end(Reason.BYTES)


class EchoFactory(Factory):
    """One `Echo` for every connection.

    :param guard: decides which connections are accepted; None accepts all.
    :param refusal: the protocol for refused connections; None builds none, which closes the connection, but
        not every type of endpoint allows that.
    :ivar protocol: makes the protocol of a connection; another answer sets it, and `measured` with it.
    :ivar measured: the same, where the limit `bytes` applies.
    :ivar decider: decides which connections get which declared faults; None if none are declared.
    :ivar proxied: whether the connections begin with a PROXY header that their transport reads.
    """

    protocol: type[Guarded] = Echo
    measured: Callable[[Guard, int], Guarded] = MeasuredEcho
    decider: Decider | None = None
    noisy = False

    def __init__(self, guard: Guard | None = None, refusal: type[Protocol] | None = None) -> None:
        self.guard = guard
        self.refusal = refusal
        self.proxied = guard is not None and guard.proxied

    @override
    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self.build(addr, header=self.proxied)

    def build(self, addr: IAddress | None, *, header: bool) -> Protocol | None:
        """The protocol for a connection from *addr*; if that is refused, `refusal`'s or None.

        :param header: whether a PROXY header will name the client.
        """
        guard = self.guard
        if guard is None:
            return self.protocol()
        if guard.refuses(addr, header=header):
            return self.refusal() if self.refusal is not None else None
        if guard.limits.bytes is not None:
            protocol: Guarded = self.measured(guard, guard.limits.bytes)
        else:
            protocol = self.protocol(guard)
        return protocol if self.decider is None else FaultyStream(protocol, self.decider, guard.clock)

    def out_of_descriptors(self, addr: IAddress) -> None:
        """A connection was closed at once, for want of a file descriptor."""
        if self.guard is not None:
            self.guard.out_of_descriptors(addr)


class Refused(Protocol):
    """Aborts its connection at once."""

    @override
    def connectionMade(self) -> None:
        cast(Any, self.transport).abortConnection()


@implementer(IEchoesDatagrams, INeedsNoLogContext)
class EchoDatagram(DatagramProtocol):
    """Echo for UDP: at most one reply to a datagram, never longer than the datagram.

    :param policy: decides which sources are answered.
    """

    noisy = False

    def __init__(self, policy: DatagramPolicy) -> None:
        self.policy = policy
        self.answers = policy.admits_all
        self.admit = policy.admit
        self.goes_round = policy.goes_round
        self.traffic = policy.traffic
        self._until_look = LOOK_EVERY

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        # Twisted's own ports do not know what a datagram was sent to.
        if not self.admit(addr, 1, getattr(self.transport, "sent_to_many", False)):
            return
        self._until_look -= 1
        if not self._until_look:
            self._until_look = LOOK_EVERY
            if self.goes_round(addr, datagram):
                return
        self.transport.write(reply(datagram), addr)  # type: ignore[union-attr]  # listening
