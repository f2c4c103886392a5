"""Opening the socket that a description describes."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    SSL4ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from suite.endpoints.descriptions import Description
from suite.endpoints.proxy_protocol import ProxyFactory, ProxyHeader
from suite.endpoints.tls import ContextFactory
from suite.errors import ListenError
from suite.guard.streams import Guard


class UDPServerEndpoint:
    """A UDP port as an endpoint, which Twisted does not have."""

    def __init__(self, reactor: Any, port: int, interface: str) -> None:
        self.reactor = reactor
        self.port = port
        self.interface = interface

    def listen(self, protocol: DatagramProtocol) -> Deferred[IListeningPort]:
        """Open the port for *protocol*.

        :returns: fires with the port, or fails with `CannotListenError` if it cannot be bound.
        """
        listening: Deferred[IListeningPort] = execute(
            self.reactor.listenUDP, self.port, protocol, self.interface
        )
        return listening


@implementer(IStreamServerEndpoint)
class InheritedServerEndpoint:
    """A listening stream socket inherited from the parent process.

    :param fileno: the descriptor of the socket.
    """

    def __init__(self, reactor: Any, fileno: int) -> None:
        self.reactor = reactor
        self.fileno = fileno

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Adopt the socket.

        :returns: fires with the port, or fails with `OSError` if it is not a listening stream socket.
        """
        try:
            inherited = socket.socket(fileno=self.fileno)
            try:
                if not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    raise OSError(errno.EINVAL, "the socket is not listening")
                family = inherited.family
            finally:
                inherited.detach()
        except OSError:
            return fail()
        endpoint = AdoptedStreamServerEndpoint(self.reactor, self.fileno, family)
        adopted: Deferred[IListeningPort] = endpoint.listen(factory)
        return adopted


#: What makes it possible to open a port below 1024.
LOW_PORT: Final = (
    "; ports below 1024 are for root: start as root with `user` in the configuration, or give a systemd unit"
    " AmbientCapabilities=CAP_NET_BIND_SERVICE, or lower sysctl net.ipv4.ip_unprivileged_port_start"
)


class Listener:
    """Opens one endpoint, again if need be.

    :param reactor: a reactor, or `suite.engine.listeners.Listeners` on top of one.
    :param description: the endpoint to open.
    :param context: the OpenSSL context of an ``ssl:`` endpoint, otherwise None.
    :param answer: the protocol factory of the endpoint; for a UDP port, its datagram protocol.
    :param guard: decides whose PROXY headers are accepted, and counts the others; None accepts all.
    """

    def __init__(
        self,
        reactor: Any,
        description: Description,
        context: SSL.Context | None,
        answer: IProtocolFactory | DatagramProtocol,
        guard: Guard | None = None,
    ) -> None:
        self.reactor = reactor
        self.description = description
        self.context_factory: ContextFactory | None = None
        if context is not None:
            self.context_factory = ContextFactory(context, ProxyHeader if description.proxied else None)
        # Over TLS the header comes before the handshake, so the transport reads it.
        wrapped = description.proxied and context is None
        self.answer: Any = answer
        if wrapped:
            self.answer = ProxyFactory(reactor, cast(IProtocolFactory, answer))
            if guard is not None:
                self.answer.trusted, self.answer.refused = guard.trusts, guard.header_refused

    async def listen(self) -> IListeningPort:
        """Open the endpoint.

        :raises ListenError: it cannot be bound, or a file or descriptor that it needs is missing.
        """
        try:
            if self.description.transport == "UDP":
                return await self._listen_datagrams()
            return await self._stream_endpoint().listen(self.answer)
        except CannotListenError as error:
            raise self._error(error.socketError) from error
        except Exception as error:  # a plugin may raise anything
            raise self._error(error) from error

    async def _listen_datagrams(self) -> IListeningPort:
        arguments = self.description.arguments
        endpoint = UDPServerEndpoint(self.reactor, int(arguments["port"]), arguments["interface"])
        return await endpoint.listen(self.answer)

    def _stream_endpoint(self) -> IStreamServerEndpoint:
        arguments = self.description.arguments
        if self.context_factory is not None:
            return SSL4ServerEndpoint(
                self.reactor,
                int(arguments["port"]),
                self.context_factory,
                int(arguments["backlog"]),
                arguments["interface"],
            )
        if self.description.kind == "fd":
            return InheritedServerEndpoint(self.reactor, int(arguments["fileno"]))
        endpoint: IStreamServerEndpoint = serverFromString(self.reactor, self.description.text)
        return endpoint

    def _error(self, error: object) -> ListenError:
        if self.description.kind == "systemd" and isinstance(error, LookupError):
            reason = "no such descriptor was inherited (see LISTEN_FDS and LISTEN_FDNAMES)"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
            if error.errno == errno.EACCES and 0 < int(self.description.arguments.get("port", 0)) < 1024:
                reason += LOW_PORT
        else:
            reason = str(error) or type(error).__name__
        return ListenError(self.description.endpoint.name, self.description.address, reason)
