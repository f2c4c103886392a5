"""Putting what answers on a listening socket, and on what only Twisted or a plugin can open."""

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import DatagramProtocol

from suite.echo import EchoFactory
from suite.endpoints.descriptions import Description
from suite.endpoints.proxy_protocol import ProxyFactory, ProxyHeader
from suite.endpoints.sockets import ListeningSocket, listen_error, make_directory
from suite.endpoints.tls import ContextFactory
from suite.engine.accept import Reserve


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


class Listener:
    """Makes the ports of one endpoint.

    :param reactor: a reactor, or `suite.engine.listeners.Listeners` on top of one.
    :param description: the endpoint.
    :param context: the OpenSSL context of an ``ssl:`` endpoint, otherwise None.
    :param factory: the protocol factory of a stream endpoint; None for UDP.
    :ivar context_factory: gives every connection of an ``ssl:`` endpoint its context; None for others.
    """

    def __init__(
        self,
        reactor: Any,
        description: Description,
        context: SSL.Context | None,
        factory: IProtocolFactory | None,
    ) -> None:
        self.reactor = reactor
        self.description = description
        self.context_factory: ContextFactory | None = None
        if context is not None:
            self.context_factory = ContextFactory(context, ProxyHeader if description.proxied else None)
        self.factory: Any = factory
        # Over TLS the header comes before the handshake, so the transport reads it.
        if description.proxied and context is None:
            self.factory = ProxyFactory(reactor, cast(EchoFactory, factory))

    def serve(
        self, sock: ListeningSocket, reserve: Reserve, protocol: DatagramProtocol | None = None
    ) -> IListeningPort:
        """Answer on *sock* from now on; the port's ``detach`` ends that and leaves *sock* open.

        :param protocol: of a UDP socket; None for streams.
        """
        port: IListeningPort
        if sock.transport == "UDP":
            port = self.reactor.serve_datagrams(sock.sock, protocol)
        else:
            port = self.reactor.serve_streams(sock.sock, self.factory, self.context_factory, reserve)
        return port

    async def listen(self, protocol: DatagramProtocol | None = None) -> IListeningPort:
        """Let the reactor, or a plugin, open a socket, and answer on it.

        :param protocol: of a UDP endpoint; None for streams.
        :raises ListenError: it cannot be bound, or something that it needs is missing.
        """
        make_directory(self.description)
        try:
            if protocol is not None:
                return await self._listen_datagrams(protocol)
            return await self._stream_endpoint().listen(self.factory)
        except CannotListenError as error:
            raise listen_error(self.description, error.socketError) from error
        except Exception as error:  # a plugin may raise anything
            raise listen_error(self.description, error) from error

    async def _listen_datagrams(self, protocol: DatagramProtocol) -> IListeningPort:
        arguments = self.description.arguments
        endpoint = UDPServerEndpoint(self.reactor, int(arguments["port"]), arguments["interface"])
        return await endpoint.listen(protocol)

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
        endpoint: IStreamServerEndpoint = serverFromString(self.reactor, self.description.text)
        return endpoint
