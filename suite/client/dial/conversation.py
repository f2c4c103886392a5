"""A conversation on a socket before its transport is made: STARTTLS."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.starttls import StartTLS


def send_now(sock: socket.socket, data: bytes) -> None:
    """Send *data*, at most some hundred bytes, for which a new connection's buffer always has room.

    :raises TargetError: the connection is over.
    """
    try:
        sock.sendall(data)
    except OSError as error:
        raise from_errno(error.errno or 0) from None


@implementer(IReadDescriptor)
class Conversation:
    """One STARTTLS dialogue over a connected socket.

    :ivar done: fires when the handshake comes next; fails with `TargetError`. The socket stays open.
    """

    def __init__(self, reactor: Any, sock: socket.socket, dialogue: StartTLS) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._stop())
        self._reactor = reactor
        self._socket = sock
        self._dialogue = dialogue
        reactor.addReader(self)
        self._go_on(b"")

    def fileno(self) -> int:
        """`IFileDescriptor.fileno`."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "STARTTLS"

    def doRead(self) -> None:
        """`IReadDescriptor.doRead`: the server has said something."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._settle(from_errno(error.errno or 0))
            return
        if data:
            self._go_on(data)
        else:
            self._settle(TargetError("closed", "the other side closed the connection during STARTTLS"))

    def _go_on(self, data: bytes) -> None:
        try:
            send_now(self._socket, self._dialogue.feed(data))
        except TargetError as error:
            self._settle(error)
            return
        if self._dialogue.complete:
            self._settle(None)

    def connectionLost(self, _reason: Failure) -> None:
        """The connection has failed, or the reactor stops."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._settle(from_errno(number or errno.ECONNRESET))

    def _settle(self, problem: TargetError | None) -> None:
        self._stop()
        if self.done.called:
            return
        if problem is None:
            self.done.callback(None)
        else:
            self.done.errback(problem)

    def _stop(self) -> None:
        self._reactor.removeReader(self)
