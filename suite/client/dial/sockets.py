"""Connecting a socket, and the transports of a client's connections."""

from __future__ import annotations

import errno
import socket
import sys
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.addresses import Address
from suite.client.dial.failures import TargetError, from_errno
from suite.engine.plain import PlainStream
from suite.engine.unix import UNIXStream

#: Seconds to wait before another attempt when the backlog of a UNIX socket is full.
FULL_QUEUE_WAIT: Final = 0.01

#: Bind an address, and choose the port when connecting (ip(7); Python names it from 3.12 on). Otherwise each
#: of many connections would need a port number of its own, whatever it connects to.
IP_BIND_ADDRESS_NO_PORT: Final = 24

_RESET: Final = "the other side reset the connection"


@implementer(IWriteDescriptor)
class _Connecting:
    """A socket that is connecting; `done` fires with it when it is connected."""

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
        """`IWriteDescriptor.doWrite`: the connection has been made, or has failed."""
        self._settle(0)

    def connectionLost(self, _reason: Failure) -> None:
        """The connection has failed, or the reactor stops."""
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


def open_socket(family: socket.AddressFamily, kind: socket.SocketKind, source: str | None) -> socket.socket:
    """A socket that does not block, and sends from *source*; None: the system chooses the address.

    :raises OSError: it cannot be opened, or *source* is not an address of this machine.
    """
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if source is not None and family != socket.AF_UNIX:
            if sys.platform == "linux":
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
    except OSError:
        sock.close()
        raise
    return sock


def connect_socket(reactor: Any, address: Address, source: str | None = None) -> Deferred[socket.socket]:
    """Connect a stream socket to *address*; fails with `TargetError`.

    :param source: our own address; None: the system chooses.
    """
    try:
        sock = open_socket(address.family, socket.SOCK_STREAM, source)
    except OSError as error:
        return defer.fail(from_errno(error.errno or 0))
    try:
        number = sock.connect_ex(address.address)
    except OSError:  # for instance, an abstract address on a system without them
        number = errno.EINVAL
    if number == 0:
        return defer.succeed(sock)
    if number in (errno.EINPROGRESS, errno.EINTR):
        return _Connecting(reactor, sock).done
    sock.close()
    if number == errno.EAGAIN and address.family == socket.AF_UNIX:
        again: Deferred[None] = deferLater(reactor, FULL_QUEUE_WAIT)
        return again.addCallback(lambda _: connect_socket(reactor, address, source))
    return defer.fail(from_errno(number))


class PlainClient(PlainStream):
    """The client side of a TCP connection; a lost connection is reported as a `TargetError`."""

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(_with_word(reason))


class UNIXClient(UNIXStream):
    """The client side of a UNIX socket connection; a lost connection is reported as a `TargetError`."""

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(_with_word(reason))


def _with_word(reason: Failure) -> Failure:
    return Failure(TargetError("reset", _RESET)) if reason.check(ConnectionLost) else reason
