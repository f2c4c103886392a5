"""The ``listen…`` methods of a reactor, opening this suite's own ports."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IOpenSSLContextFactory, IProtocolFactory
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import DatagramProtocol
from zope.interface import directlyProvides, providedBy

from suite.engine.accept import AcceptingPort, Reserve
from suite.engine.datagram import DATAGRAM_BUFFER_SIZE, DatagramPort, port_class_for
from suite.engine.plain import TCPPort
from suite.engine.tls import TLSPort

if os.name == "posix":
    from suite.engine.unix import UNIXPort  # needs fcntl


class ListenersMixin:
    """The methods themselves, for a class that has the rest of a POSIX reactor."""

    @property
    def _runner(self) -> Any:
        """The reactor that runs the ports."""
        return self

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> TCPPort:
        """`IReactorTCP.listenTCP`, with connections that write at once."""
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
        """`IReactorSSL.listenSSL`, with TLS directly on the socket."""
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
        """`IReactorUNIX.listenUNIX`, which a stale socket never blocks."""
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
        """`IReactorUDP.listenUDP`, in bounded turns; by default no datagram is truncated."""
        udp = port_class_for(protocol)(port, protocol, interface, maxPacketSize, self._runner)
        udp.startListening()
        return udp

    def serve_streams(
        self,
        sock: socket.socket,
        factory: IProtocolFactory,
        contextFactory: IOpenSSLContextFactory | None,
        reserve: Reserve,
    ) -> AcceptingPort:
        """Accept connections on *sock*, a listening socket that stays its owner's.

        The family is read from the socket. `AcceptingPort.detach` ends it and leaves the socket open.

        :param contextFactory: for TLS; None for plain connections.
        :param reserve: the descriptor to release when there are no others.
        """
        name: Any = sock.getsockname()
        port: AcceptingPort
        if sock.family == getattr(socket, "AF_UNIX", None):
            port = UNIXPort(name, factory, reactor=self._runner)
        elif contextFactory is None:
            port = TCPPort(name[1], factory, interface=name[0], reactor=self._runner)
        else:
            port = TLSPort(name[1], factory, contextFactory, 0, name[0], self._runner)
        port.serve(sock, reserve)
        return port

    def serve_datagrams(self, sock: socket.socket, protocol: DatagramProtocol) -> DatagramPort:
        """Receive datagrams on *sock*, which is bound and stays its owner's."""
        return port_class_for(protocol).on(sock, protocol, self._runner, DATAGRAM_BUFFER_SIZE)

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> TCPPort | UNIXPort:
        """`IReactorSocket.adoptStreamPort`, with the transports of the ports above."""
        port: TCPPort | UNIXPort
        # Twisted has no public way to make a port from a descriptor.
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
    """A reactor that runs on *reactor* and opens this suite's ports; *reactor* itself if it does so already.

    A reactor of another kind (a test's, or Windows' IOCP) is returned as it is, with its own ports.
    """
    if isinstance(reactor, ListenersMixin) or not isinstance(reactor, PosixReactorBase):
        return reactor
    return Listeners(reactor)


class Listeners(ListenersMixin):
    """A POSIX reactor that differs from *reactor* only in the ports that it opens.

    Pass it to ``serverFromString``, or to any endpoint, in place of the reactor.

    :param reactor: the reactor that does the work.
    """

    def __init__(self, reactor: PosixReactorBase) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    @property
    def _runner(self) -> Any:
        return self._reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
