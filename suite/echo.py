"""The heart: give every byte back.

Rules: one reply logic (`reply`) for every transport; the transport is its own producer, so a peer
that does not read is paused instead of buffered; a peer that ends its side gets the rest of its
echo before ours ends.
"""

from __future__ import annotations

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

from suite.engine.datagram import IEchoesDatagrams
from suite.engine.quiet import IQuiet, writes_back
from suite.policy import DatagramPolicy


def reply(data: bytes) -> bytes:
    """The answer to *data*: the same bytes (RFC 862)."""
    return data


@implementer(IHalfCloseableProtocol, IQuiet)
class Echo(Protocol):
    """Echo for every stream: TCP, TLS and UNIX."""

    @override
    def connectionMade(self) -> None:
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            # Nagle's algorithm holds back the tail of a reply until the peer's delayed ACK: 40 ms.
            cast(Any, transport).setTcpNoDelay(True)
        cast(IConsumer, transport).registerProducer(cast(IPushProducer, transport), True)

    @override
    @writes_back
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(reply(data))  # type: ignore[union-attr]  # connected, or no data

    def readConnectionLost(self) -> None:
        """The peer has ended its side; close once it has all of its echo.

        A producer that is still registered would be resumed, when the buffer is empty, instead of
        the connection being closed.
        """
        cast(IConsumer, self.transport).unregisterProducer()
        cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        """We have ended our side (never before the peer has): nothing is left to do."""


class EchoFactory(Factory):
    """One `Echo` for every connection."""

    protocol = Echo
    noisy = False

    @override
    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return Echo()


@implementer(IEchoesDatagrams, IQuiet)
class EchoDatagram(DatagramProtocol):
    """Echo for UDP: one reply for a datagram, never longer than it.

    :param policy: asked about the source of every datagram; without its consent nothing is sent.
    """

    noisy = False

    def __init__(self, policy: DatagramPolicy) -> None:
        self.policy = policy
        self.refused = policy.refused

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if self.policy.admit(addr):
            self.transport.write(reply(datagram), addr)  # type: ignore[union-attr]  # listening
