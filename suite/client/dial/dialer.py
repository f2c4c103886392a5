"""Getting there: names, addresses, sockets, and connections on the engine's transports.

Rules: every address of a name is tried, in the system's order (RFC 6724); whatever fails, fails with a
`TargetError`; nothing waits longer than the timeout. Streams are the engine's (`suite.engine.stream`), so
that a client writes before it waits, too.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol, IReadDescriptor, IWriteDescriptor
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.target import Target
from suite.client.dial.tls import ClientTLS, Session, TLSClient, TLSOptions
from suite.config.limits import host_and_port
from suite.endpoints.descriptions import shown_socket
from suite.engine.stream import PlainStream, Stream
from suite.engine.unix import UNIXStream

T = TypeVar("T")

#: The largest payload of a datagram over IPv4 (RFC 768: 65535, less the headers).
MAX_DATAGRAM: Final = 65_507

#: Datagrams taken before everyone else has a turn.
DATAGRAMS_PER_TURN: Final = 64

#: How long to wait before asking again at a UNIX socket whose queue is full, in seconds.
FULL_QUEUE_WAIT: Final = 0.01

_CUT_OFF: Final = "the other side has cut the connection off"

SocketAddress = Any  # what the socket module makes of an address: tuples, or the path of a UNIX socket


@dataclass(frozen=True)
class ConnectOptions:
    """How a target is to be reached.

    :ivar family: ``socket.AF_INET`` or ``AF_INET6`` where only one will do.
    :ivar timeout: seconds for each step: the name, the connection, the handshake.
    """

    family: socket.AddressFamily = socket.AF_UNSPEC
    timeout: float = 5.0
    tls: TLSOptions = field(default_factory=TLSOptions)


@dataclass(frozen=True)
class Address:
    """One address of a target."""

    family: socket.AddressFamily
    address: SocketAddress

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return shown_socket(self.address)
        return host_and_port(self.address[0], self.address[1])


def too_late(what: str, seconds: float) -> TargetError:
    """*what* did not happen within *seconds*."""
    return TargetError("timeout", f"{what} within {seconds:.3g} s")


async def within(reactor: Any, seconds: float, late: TargetError, waiting: Deferred[T]) -> T:
    """What *waiting* fires with; it is cancelled after *seconds*, and *late* raised."""
    waiting.addTimeout(seconds, reactor)
    try:
        return await waiting
    except defer.TimeoutError:
        raise late from None


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
        """Where the target is; one address at least.

        :raises TargetError: nobody knows.
        """
        target, options = self.target, self.options
        if target.transport == "unix":
            return [Address(socket.AF_UNIX, target.path)]
        kind = socket.SOCK_DGRAM if target.transport == "udp" else socket.SOCK_STREAM
        found = _resolve(self.reactor, target.host, target.port, options.family, kind)
        late = TargetError("dns", f"{target.host}: no answer within {options.timeout:g} s")
        return await within(self.reactor, options.timeout, late, found)

    async def connect(self, addresses: list[Address] | None = None) -> Connected:
        """Open a socket to the first of *addresses* (default: the target's own) that takes it.

        :raises TargetError: none does; the word is that of the last one.
        """
        if addresses is None:
            addresses = await self.addresses()
        end = time.monotonic() + self.options.timeout
        problems = []
        for number, address in enumerate(addresses):
            # One that does not answer must not use up the time of the others.
            share = max(0.0, end - time.monotonic()) / (len(addresses) - number)
            late = too_late("no connection", share)
            began = time.perf_counter()
            try:
                sock = await within(self.reactor, share, late, _connect_socket(self.reactor, address))
            except TargetError as error:
                problems.append((address, error))
            else:
                return Connected(sock, address, time.perf_counter() - began)
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
        """Connect *protocol*; over TLS, it is told when the handshake is over.

        :param session: a TLS session to resume, if the other side likes.
        :returns: its transport; `connectionLost` of *protocol* gets a `TargetError` as reason, or
            `ConnectionDone`.
        :raises TargetError: there is no connection.
        """
        return await self.adopt(await self.connect(addresses), protocol, session)

    async def adopt(
        self, connected: Connected, protocol: IProtocol, session: Session | None = None
    ) -> Stream:
        """Give an open socket to *protocol*; see `stream`."""
        sock, address = connected.socket, connected.address
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
        late = too_late("no handshake", self.options.timeout)
        await within(self.reactor, self.options.timeout, late, encrypted.start())
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
class Connected:
    """An open socket, where it leads, and how many seconds opening it took."""

    socket: socket.socket
    address: Address
    seconds: float


# Names.


def _resolve(
    reactor: Any, host: str, port: int, family: socket.AddressFamily, kind: socket.SocketKind
) -> Deferred[list[Address]]:
    """The addresses of *host*, in the system's order."""
    done: Deferred[list[Address]] = Deferred()
    try:
        done.callback(_look_up(host, port, family, kind, socket.AI_NUMERICHOST))
        return done
    except TargetError:
        pass  # a name, then

    def ask() -> None:
        result: list[Address] | Failure
        try:
            result = _look_up(host, port, family, kind, 0)
        except TargetError:
            result = Failure()
        reactor.callFromThread(tell, result)

    def tell(result: list[Address] | Failure) -> None:
        if not done.called:
            done.callback(result)  # a Failure goes the errbacks' way

    # Not the reactor's own pool, whose threads are waited for at the end: a resolver may take a minute.
    threading.Thread(target=ask, daemon=True).start()
    return done


def _look_up(
    host: str, port: int, family: socket.AddressFamily, kind: socket.SocketKind, flags: int
) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, family, kind, 0, flags)
    except socket.gaierror as error:
        raise TargetError("dns", f"{host}: {error.strerror}") from None
    except UnicodeError:
        raise TargetError("dns", f"{host}: is no host name") from None
    return [Address(socket.AddressFamily(family), address) for family, _, _, _, address in found]


# Sockets.


@implementer(IWriteDescriptor)
class _Connecting:
    """A socket on its way; `done` fires with it when it has arrived."""

    def __init__(self, reactor: Any, sock: socket.socket) -> None:
        self.reactor = reactor
        self.socket = sock
        self.done: Deferred[socket.socket] = Deferred(self._cancelled)
        reactor.addWriter(self)

    def fileno(self) -> int:
        """`IFileDescriptor.fileno`."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "connecting"

    def doWrite(self) -> None:
        """The kernel has an answer."""
        self._settle(0)

    def connectionLost(self, _reason: Failure) -> None:
        """The kernel has an answer, and it is no; or the reactor stops."""
        self._settle(errno.ECONNABORTED)

    def _settle(self, otherwise: int) -> None:
        if self.done.called:
            return
        self.reactor.removeWriter(self)
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or otherwise
        if number:
            self.socket.close()
            self.done.errback(from_errno(number))
        else:
            self.done.callback(self.socket)

    def _cancelled(self, _done: object) -> None:
        self.reactor.removeWriter(self)
        self.socket.close()


def _connect_socket(reactor: Any, address: Address) -> Deferred[socket.socket]:
    """Open a stream to *address*; fails with `TargetError`."""
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:
        return defer.fail(from_errno(error.errno or 0))
    sock.setblocking(False)
    try:
        number = sock.connect_ex(address.address)
    except OSError:  # an abstract path where there are none, for instance
        number = errno.EINVAL
    if number == 0:
        return defer.succeed(sock)
    if number in (errno.EINPROGRESS, errno.EINTR):
        return _Connecting(reactor, sock).done
    sock.close()
    if number == errno.EAGAIN and address.family == socket.AF_UNIX:
        again: Deferred[None] = deferLater(reactor, FULL_QUEUE_WAIT)
        return again.addCallback(lambda _: _connect_socket(reactor, address))
    return defer.fail(from_errno(number))


# Streams.


class PlainClient(PlainStream):
    """The client side of a TCP connection; what cuts it off has a word."""

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(_with_word(reason))


class UNIXClient(UNIXStream):
    """The client side of a connection over a UNIX socket; what cuts it off has a word."""

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(_with_word(reason))


def _with_word(reason: Failure) -> Failure:
    return Failure(TargetError("reset", _CUT_OFF)) if reason.check(ConnectionLost) else reason


# Datagrams.


@implementer(IReadDescriptor)
class Datagrams:
    """A UDP socket connected to a target, from when it is made until `close`.

    As a name may have addresses where nobody listens, the next one is tried as long as none has answered.

    :param addresses: where the target may be.
    :param received: is given every datagram that comes back.
    :param failed: is told what the network says of those that do not.
    :ivar address: the one that is in use.
    :raises TargetError: no address can be used.
    """

    def __init__(
        self,
        reactor: Any,
        addresses: list[Address],
        received: Callable[[bytes], None],
        failed: Callable[[TargetError], None],
    ) -> None:
        self.reactor = reactor
        self._others = list(addresses)
        self._received = received
        self._failed = failed
        self._last = b""
        self._open()

    def _open(self) -> None:
        while True:
            self.address = self._others.pop(0)
            try:
                self._socket = socket.socket(self.address.family, socket.SOCK_DGRAM)
            except OSError as error:
                problem = from_errno(error.errno or 0)
            else:
                self._socket.setblocking(False)
                number = self._socket.connect_ex(self.address.address)
                if not number:
                    break
                self._socket.close()
                problem = from_errno(number)
            if not self._others:
                raise problem
        self.reactor.addReader(self)

    def send(self, data: bytes) -> None:
        """Send one datagram.

        :raises TargetError: the system refuses it.
        """
        self._last = data
        try:
            self._socket.send(data)
        except BlockingIOError:
            pass  # no room: as lost as one that is lost on the way
        except OSError as error:
            self._trouble(error)

    def _trouble(self, error: OSError) -> None:
        problem = from_errno(error.errno or 0)
        if not self._others or problem.word not in ("refused", "unreachable"):
            raise problem
        self.close()
        self._open()
        self.send(self._last)

    def close(self) -> None:
        """Close the socket."""
        self.reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        """`IFileDescriptor.fileno`."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "datagrams"

    def doRead(self) -> None:
        """Take what has come."""
        for _ in range(DATAGRAMS_PER_TURN):
            if self._socket.fileno() == -1:  # it was closed by whoever got the last one
                return
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                self._report(error)
                return
            self._others.clear()
            self._received(data)

    def _report(self, error: OSError) -> None:
        try:
            self._trouble(error)
        except TargetError as problem:
            self._failed(problem)

    def connectionLost(self, _reason: Failure) -> None:
        """The network has an error for us, which pollers take for an end; or the reactor stops."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.reactor.addReader(self)
            self._report(OSError(number, os.strerror(number)))
        else:
            self.close()
