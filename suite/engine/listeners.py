"""The ``listen…`` calls of a reactor, answered with this suite's own ports."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IOpenSSLContextFactory, IProtocolFactory
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import DatagramProtocol
from zope.interface import directlyProvides, providedBy

from suite.engine.datagram import MAX_DATAGRAM, DatagramPort
from suite.engine.tls import TLSPort


class Listeners:
    """A POSIX reactor in every respect but the ports it opens.

    Give it to ``serverFromString``, or to any endpoint, in place of the reactor.

    :param reactor: the reactor that runs everything.
    """

    def __init__(self, reactor: PosixReactorBase) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: IOpenSSLContextFactory,
        backlog: int = 50,
        interface: str = "",
    ) -> TLSPort:
        """`IReactorSSL.listenSSL`, with TLS straight on the socket."""
        tls = TLSPort(port, factory, contextFactory, backlog, interface, self._reactor)
        tls.startListening()
        return tls

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> Any:
        """`IReactorUNIX.listenUNIX`, with a socket that is never blocked by a stale one."""
        from suite.engine.unix import UNIXPort  # noqa: PLC0415  # needs fcntl, which Windows has not

        unix = UNIXPort(address, factory, backlog, mode, self._reactor, wantPID)
        unix.startListening()
        return unix

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
    ) -> DatagramPort:
        """`IReactorUDP.listenUDP`, in bounded turns, and by default without cutting anything short."""
        udp = DatagramPort(port, protocol, interface, maxPacketSize, self._reactor)
        udp.startListening()
        return udp
