"""The ``listen…`` calls of a reactor, answered with this suite's own ports."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IOpenSSLContextFactory, IProtocolFactory
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import DatagramProtocol
from zope.interface import directlyProvides, providedBy

from suite.engine.datagram import DATAGRAM_BUFFER_SIZE, DatagramPort, port_class_for
from suite.engine.stream import TCPPort
from suite.engine.tls import TLSPort

if os.name == "posix":
    from suite.engine.unix import UNIXPort  # needs fcntl


class ListenersMixin:
    """The calls themselves, for a class that has all the rest of a POSIX reactor."""

    @property
    def _runner(self) -> Any:
        """What runs the ports."""
        return self

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> TCPPort:
        """`IReactorTCP.listenTCP`, with connections that write before they wait."""
        tcp = TCPPort(port, factory, backlog, interface, self._runner)
        tcp.startListening()
        return tcp

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: IOpenSSLContextFactory,
        backlog: int = 50,
        interface: str = "",
    ) -> TLSPort:
        """`IReactorSSL.listenSSL`, with TLS straight on the socket."""
        tls = TLSPort(port, factory, contextFactory, backlog, interface, self._runner)
        tls.startListening()
        return tls

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> UNIXPort:
        """`IReactorUNIX.listenUNIX`, with a socket that is never blocked by a stale one."""
        unix = UNIXPort(address, factory, backlog, mode, self._runner, wantPID)
        unix.startListening()
        return unix

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = DATAGRAM_BUFFER_SIZE,
    ) -> DatagramPort:
        """`IReactorUDP.listenUDP`, in bounded turns, and by default without cutting anything short."""
        udp = port_class_for(protocol)(port, protocol, interface, maxPacketSize, self._runner)
        udp.startListening()
        return udp

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> TCPPort | UNIXPort:
        """`IReactorSocket.adoptStreamPort`, with the transports of the ports above."""
        port: TCPPort | UNIXPort
        # Twisted has no public way to make a port of a socket.
        if addressFamily == socket.AF_UNIX:
            port = UNIXPort._fromListeningDescriptor(self._runner, fileDescriptor, factory)  # noqa: SLF001
        elif addressFamily in (socket.AF_INET, socket.AF_INET6):
            port = TCPPort._fromListeningDescriptor(  # noqa: SLF001
                self._runner, fileDescriptor, addressFamily, factory
            )
        else:
            raise UnsupportedAddressFamily(addressFamily)
        port.startListening()
        return port


def with_listeners(reactor: Any) -> Any:
    """*reactor*, or what to use in its place, so that ports are opened as above.

    A reactor that is not of the POSIX kind (a test's, or Windows' IOCP) keeps its own ports.
    """
    if isinstance(reactor, ListenersMixin) or not isinstance(reactor, PosixReactorBase):
        return reactor
    return Listeners(reactor)


class Listeners(ListenersMixin):
    """A POSIX reactor in every respect but the ports it opens.

    Give it to ``serverFromString``, or to any endpoint, in place of the reactor.

    :param reactor: the reactor that runs everything.
    """

    def __init__(self, reactor: PosixReactorBase) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    @property
    def _runner(self) -> Any:
        return self._reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
