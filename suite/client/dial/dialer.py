"""Connecting to a target: names, addresses, sockets, and connections on the engine's transports.

Rules: every address of a name is tried, in the system's order (RFC 6724); every failure is a `TargetError`;
no step waits longer than the timeout. Streams use the engine's transports (`suite.engine.stream`), so that a
client, too, writes at once instead of waiting for the reactor.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IProtocol

from suite.client.dial.addresses import Address, resolve
from suite.client.dial.datagrams import Datagrams
from suite.client.dial.failures import TargetError
from suite.client.dial.sockets import PlainClient, UNIXClient, connect_socket
from suite.client.dial.target import Target
from suite.client.dial.tls import ClientTLS, Session, TLSClient, TLSOptions
from suite.client.dial.waiting import timeout_error, with_timeout
from suite.engine.stream import Stream


@dataclass(frozen=True)
class ConnectOptions:
    """How to connect to a target.

    :ivar family: ``socket.AF_INET`` or ``AF_INET6`` to use only that family.
    :ivar timeout: seconds for each step: name resolution, connection, handshake.
    """

    family: socket.AddressFamily = socket.AF_UNSPEC
    timeout: float = 5.0
    tls: TLSOptions = field(default_factory=TLSOptions)


class Dialer:
    """Connects to one target, any number of times.

    :param reactor: any reactor that watches descriptors.
    :raises CertificateError: a file that *options* name cannot be used.
    """

    def __init__(self, reactor: Any, target: Target, options: ConnectOptions) -> None:
        self.reactor = reactor
        self.target = target
        self.options = options
        self._tls = ClientTLS(target, options.tls) if target.transport == "tls" else None

    async def addresses(self) -> list[Address]:
        """The addresses of the target; at least one.

        :raises TargetError: its name cannot be resolved.
        """
        target, options = self.target, self.options
        if target.transport == "unix":
            return [Address(socket.AF_UNIX, target.path)]
        kind = socket.SOCK_DGRAM if target.transport == "udp" else socket.SOCK_STREAM
        found = resolve(self.reactor, target.host, target.port, options.family, kind)
        late = TargetError("dns", f"{target.host}: no answer within {options.timeout:g} s")
        return await with_timeout(self.reactor, options.timeout, late, found)

    async def connect(self, addresses: list[Address] | None = None) -> DialedSocket:
        """Connect a socket to the first of *addresses* (default: the target's) that accepts it.

        :raises TargetError: none accepts it; the word is that of the last failure.
        """
        if addresses is None:
            addresses = await self.addresses()
        end = time.monotonic() + self.options.timeout
        problems = []
        for number, address in enumerate(addresses):
            # An address that does not answer must not use up the time of the others.
            share = max(0.0, end - time.monotonic()) / (len(addresses) - number)
            late = timeout_error("no connection", share)
            began = time.perf_counter()
            try:
                sock = await with_timeout(self.reactor, share, late, connect_socket(self.reactor, address))
            except TargetError as error:
                problems.append((address, error))
            else:
                return DialedSocket(sock, address, time.perf_counter() - began)
        last = problems[-1][1]
        if len(problems) == 1:
            raise last
        raise TargetError(last.word, "; ".join(f"{address}: {problem}" for address, problem in problems))

    async def stream(
        self,
        protocol: IProtocol,
        *,
        addresses: list[Address] | None = None,
        session: Session | None = None,
    ) -> Stream:
        """Connect *protocol*; over TLS, its `connectionMade` is called after the handshake.

        :param session: a TLS session to resume, if the other side agrees.
        :returns: the transport of *protocol*, whose `connectionLost` is called with a `TargetError` or
            `ConnectionDone`.
        :raises TargetError: the connection fails.
        """
        return await self.adopt(await self.connect(addresses), protocol, session)

    async def adopt(
        self, dialed: DialedSocket, protocol: IProtocol, session: Session | None = None
    ) -> Stream:
        """Connect *protocol* over an open socket; see `stream`."""
        sock, address = dialed.socket, dialed.address
        if address.family == socket.AF_UNIX:
            unix = UNIXClient(sock, protocol, (address.address, None), None, 0, self.reactor)
            protocol.makeConnection(unix)
            return unix
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            plain = PlainClient(sock, protocol, address.address, None, 0, self.reactor)
            protocol.makeConnection(plain)
            return plain
        encrypted = TLSClient(sock, address.address, self._tls, self.reactor, session)
        late = timeout_error("no handshake", self.options.timeout)
        await with_timeout(self.reactor, self.options.timeout, late, encrypted.start())
        encrypted.adopt(protocol)
        return encrypted

    async def datagrams(
        self, received: Callable[[bytes], None], failed: Callable[[TargetError], None]
    ) -> Datagrams:
        """Open a socket that exchanges datagrams with the target; see `Datagrams`."""
        return Datagrams(self.reactor, await self.addresses(), received, failed)


async def connect_stream(
    reactor: Any, target: Target, options: ConnectOptions, protocol: IProtocol
) -> Stream:
    """Connect *protocol* to *target*; see `Dialer.stream`."""
    return await Dialer(reactor, target, options).stream(protocol)


@dataclass(frozen=True)
class DialedSocket:
    """A connected socket.

    :ivar address: the address that it is connected to.
    :ivar seconds: how long connecting took.
    """

    socket: socket.socket
    address: Address
    seconds: float
