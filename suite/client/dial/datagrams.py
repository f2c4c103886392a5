"""A UDP socket that exchanges datagrams with a target."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from suite.client.dial.addresses import Address
from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.sockets import open_socket

#: The largest payload of a datagram over IPv4 (RFC 768: 65535, less the headers).
MAX_UDP_PAYLOAD: Final = 65_507

#: The most datagrams read before other descriptors get their turn.
DATAGRAMS_PER_TURN: Final = 64


@implementer(IReadDescriptor)
class Datagrams:
    """A UDP socket connected to a target, open until `close`.

    A name may have addresses at which nothing listens, so until one has answered, each error moves on to the
    next, and so does silence.

    :param addresses: the possible addresses of the target.
    :param timeout: seconds for all addresses together; one that is silent for its share is passed over.
    :param source: our own address; None: the system chooses.
    :param received: called with every datagram that arrives.
    :param failed: called with an error that the network reports.
    :ivar address: the address in use.
    :ivar sent_at: when the last datagram was sent, by `time.perf_counter`.
    :raises TargetError: no address can be used.
    """

    def __init__(
        self,
        reactor: Any,
        addresses: list[Address],
        received: Callable[[bytes], None],
        failed: Callable[[TargetError], None],
        *,
        timeout: float,
        source: str | None = None,
    ) -> None:
        self.reactor = reactor
        self._others = list(addresses)
        self._received = received
        self._failed = failed
        self._last = b""
        self._share = timeout / len(addresses)
        self._source = source
        self._impatience: IDelayedCall | None = None
        self.sent_at = 0.0
        self._open()

    def _open(self) -> None:
        while True:
            self.address = self._others.pop(0)
            try:
                self._socket = open_socket(self.address.family, socket.SOCK_DGRAM, self._source)
            except OSError as error:
                problem = from_errno(error.errno or 0)
            else:
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

        :raises TargetError: the system refuses to send it.
        """
        self._last = data
        self.sent_at = time.perf_counter()
        if self._others and self._impatience is None:
            self._impatience = self.reactor.callLater(self._share, self._pass_over)
        try:
            self._socket.send(data)
        except BlockingIOError:
            pass  # the send buffer is full: the datagram counts as lost
        except OSError as error:
            self._trouble(error)

    def _trouble(self, error: OSError) -> None:
        problem = from_errno(error.errno or 0)
        if not self._others or problem.word not in ("refused", "unreachable"):
            raise problem
        self._try_next()

    def _try_next(self) -> None:
        self.close()
        self._open()
        self.send(self._last)

    def _pass_over(self) -> None:
        """The address in use has been silent for its share of the time."""
        self._impatience = None
        try:
            self._try_next()
        except TargetError as problem:
            self._failed(problem)

    def _stop_waiting(self) -> None:
        waiting, self._impatience = self._impatience, None
        if waiting is not None and waiting.active():
            waiting.cancel()

    def close(self) -> None:
        """Close the socket."""
        self._stop_waiting()
        self.reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        """`IFileDescriptor.fileno`."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "datagrams"

    def doRead(self) -> None:
        """`IReadDescriptor.doRead`: read datagrams that have arrived."""
        for _ in range(DATAGRAMS_PER_TURN):
            if self._socket.fileno() == -1:  # `received` has closed the socket
                return
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                self._report(error)
                return
            if self._others:
                self._others.clear()
                self._stop_waiting()
            self._received(data)

    def _report(self, error: OSError) -> None:
        try:
            self._trouble(error)
        except TargetError as problem:
            self._failed(problem)

    def connectionLost(self, _reason: Failure) -> None:
        """The socket has an error, which the reactor takes for its end; or the reactor stops."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.reactor.addReader(self)
            self._report(OSError(number, os.strerror(number)))
        else:
            self.close()
