"""Connecting to a target: names, addresses, sockets, and connections on the engine's transports.

Rules: every address of a name is tried (RFC 6724, RFC 8305); every failure is a `TargetError`; no step waits
longer than the timeout. Streams use the engine's transports (`suite.engine.stream`), so that a
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
from suite.client.dial.conversation import Conversation, send_now
from suite.client.dial.datagrams import Datagrams
from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.happy_eyeballs import connect_first, taking_turns
from suite.client.dial.proxy_header import Version, proxy_header
from suite.client.dial.sockets import PlainClient, UNIXClient
from suite.client.dial.starttls import StartTLS
from suite.client.dial.target import Target
from suite.client.dial.tls import ClientTLS, Session, TLSClient
from suite.client.dial.trust import TLSOptions
from suite.client.dial.waiting import timeout_error, with_timeout
from suite.engine.stream import Stream


@dataclass(frozen=True)
class ConnectOptions:
    """How to connect to a target.

    :ivar family: ``socket.AF_INET`` or ``AF_INET6`` to use only that family.
    :ivar timeout: seconds for each step: name resolution, connection, STARTTLS, handshake.
    :ivar source: our own address, of *family*; None: the system chooses.
    :ivar proxy_protocol: the version of the PROXY header to send first; None: none, unless the target is
        known to expect one.
    :ivar starttls: the protocol, one of `PROTOCOLS`, in which to ask for TLS; None: TLS comes first.
    """

    family: socket.AddressFamily = socket.AF_UNSPEC
    timeout: float = 5.0
    tls: TLSOptions = field(default_factory=TLSOptions)
    source: str | None = None
    proxy_protocol: Version | None = None
    starttls: str | None = None


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
        """Connect a socket to the first of *addresses* that answers; see `connect_first`.

        :param addresses: default: those of the target.

        :raises TargetError: none accepts it; the word is that of the last failure.
        """
        lookup = None
        if addresses is None:
            began = time.perf_counter()
            addresses = await self.addresses()
            lookup = time.perf_counter() - began
        options = self.options
        began = time.perf_counter()
        sock, address = await connect_first(self.reactor, addresses, options.timeout, options.source)
        return DialedSocket(sock, address, time.perf_counter() - began, lookup)

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
        try:
            await self._introduce(sock)
        except BaseException:
            sock.close()
            raise
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

    async def _introduce(self, sock: socket.socket) -> None:
        """Send and receive what comes before all else: a PROXY header, the dialogue of STARTTLS."""
        options = self.options
        version = options.proxy_protocol or ("v2" if self.target.proxied else None)
        if version is not None:
            try:
                header = proxy_header(version, sock)
            except OSError as error:
                raise from_errno(error.errno or 0) from None
            send_now(sock, header)
        if options.starttls is not None:
            name = options.tls.server_name or self.target.host
            conversation = Conversation(self.reactor, sock, StartTLS(options.starttls, name))
            late = timeout_error("no answer in the dialogue of STARTTLS", options.timeout)
            late.detail += "; a server that speaks TLS at once needs no --starttls"
            await with_timeout(self.reactor, options.timeout, late, conversation.done)

    async def datagrams(
        self, received: Callable[[bytes], None], failed: Callable[[TargetError], None]
    ) -> Datagrams:
        """Open a socket that exchanges datagrams with the target; see `Datagrams`."""
        options = self.options
        addresses = taking_turns(await self.addresses())
        return Datagrams(
            self.reactor, addresses, received, failed, timeout=options.timeout, source=options.source
        )


async def connect_stream(
    reactor: Any, target: Target, options: ConnectOptions, protocol: IProtocol
) -> Stream:
    """Connect *protocol* to *target*; see `Dialer.stream`."""
    return await Dialer(reactor, target, options).stream(protocol)


@dataclass(frozen=True)
class DialedSocket:
    """A connected socket.

    :ivar address: the address that it is connected to.
    :ivar seconds: how long connecting took, attempts at other addresses included.
    :ivar lookup: how many seconds resolving the name took; None: it was not done.
    """

    socket: socket.socket
    address: Address
    seconds: float
    lookup: float | None = None
