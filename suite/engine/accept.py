"""Accepting connections in bounded turns, even when the process has no file descriptors left.

Rules: at most `ACCEPTS_PER_TURN` connections are accepted before every other descriptor has its turn; without
free descriptors, a port releases the one that it holds in reserve, accepts the waiting connections and closes
them: their peers are refused rather than left waiting, and open connections notice nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import suppress
from typing import Any, Final, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from suite.engine.binding import Detachable, watchable, with_scope

log = Logger()

ACCEPTS_PER_TURN: Final = 64

#: More than any accept queue holds. Without a limit, a flood could keep a port from closing.
LONGEST_QUEUE: Final = 65_536

#: Seconds until a port accepts again after even the reserve descriptor did not help.
RETRY_DELAY: Final = 0.5

#: Errors of accept(2) that concern one connection only; Linux reports its pending network errors there.
TRANSIENT_ACCEPT_ERRORS: Final = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR})


class Reserve:
    """A file descriptor to release when there are no others; ports may share one."""

    #: None while the descriptor is in use or could not be had.
    _fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether there is a descriptor to release."""
        return self._fd is not None

    def take(self) -> None:
        """Take a descriptor, if one can be had."""
        if self._fd is None:
            with suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def drop(self) -> None:
        """Release the descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class AcceptingPort(Detachable, tcp.Port):
    """A port for stream connections.

    If its factory has a method ``out_of_descriptors(address)``, that is called for each connection closed for
    want of a file descriptor.

    :ivar reserve: the descriptor to release when there are no others; the port's own, or shared.
    :ivar paused: whether connections wait in the queue of the kernel; see `pause`.
    """

    paused = False
    _owns_reserve = True
    reserve: Reserve
    #: See `watchable`.
    _watchable = sys.maxsize

    def serve(self, sock: socket.socket, reserve: Reserve) -> None:
        """Accept connections on *sock*, a listening socket, until `detach`; it is never closed here.

        :param reserve: see `reserve`; it stays the caller's.
        """
        self._owns_socket = self._owns_reserve = self._shouldShutdown = False
        self.reserve = reserve
        self._accept_on(sock)

    @override
    def startListening(self) -> None:
        super().startListening()
        self._take_reserve()

    def _accept_on(self, sock: socket.socket) -> None:
        """What `startListening` does with a socket, but for the line that Twisted logs of each port."""
        cast(Any, self.factory).doStart()
        self.connected = True
        self.socket = sock
        self._realPortNumber = self.port
        self.fileno = sock.fileno  # type: ignore[method-assign]  # as in Twisted's ports
        self._take_reserve()
        self.startReading()

    @override
    def connectionLost(self, reason: Failure) -> None:
        self._drop_reserve()
        super().connectionLost(reason)

    @override
    def _closeSocket(self, orderly: bool) -> None:
        if self._owns_socket:
            super()._closeSocket(orderly)

    def _take_reserve(self) -> None:
        self._watchable = watchable(self.reactor)
        if self._owns_reserve:
            self.reserve = Reserve()
        self.reserve.take()

    def _drop_reserve(self) -> None:
        if self._owns_reserve:
            self.reserve.drop()

    def pause(self) -> None:
        """Accept nothing until `resume`: connections wait in the queue of the kernel."""
        self.paused = True
        self.stopReading()

    def resume(self) -> None:
        """Accept again, what has waited first."""
        self.paused = False
        if self.connected and not self.disconnecting:
            self.startReading()

    @override
    def doRead(self) -> None:
        self._accept_some()

    def accept_all(self) -> None:
        """Accept all waiting connections, which closing the port would reset; none if it has died."""
        if not self.connected:
            return
        for _ in range(0, LONGEST_QUEUE, ACCEPTS_PER_TURN):
            if not self._accept_some():
                return

    def _accept_some(self) -> bool:
        """Accept a turn's worth of connections; return whether more may be waiting."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = self.socket.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in TRANSIENT_ACCEPT_ERRORS:
                    continue
                self._shed(error)
                return False
            if sock.fileno() >= self._watchable:
                sock.close()
                self._tell_shed(address)
                continue
            try:
                self._begin(sock, address)
            except Exception:  # noqa: BLE001  # one connection must not close the port
                log.failure("a connection to {port} could not begin", port=self)
                sock.close()
        return True

    def _begin(self, sock: socket.socket, address: Any) -> None:
        address = with_scope(address)
        protocol = cast(IProtocolFactory, self.factory).buildProtocol(self._buildAddr(address))
        if protocol is None:
            sock.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        protocol.makeConnection(self.transport(sock, protocol, address, self, number, self.reactor))

    def _shed(self, error: OSError) -> None:
        """Accept and close the waiting connections, by means of the reserve descriptor."""
        if error.errno in (errno.EMFILE, errno.ENFILE) and self.reserve.held:
            self.reserve.drop()
            shed = []
            # Nothing in this loop may open a descriptor.
            with suppress(OSError):
                for _ in range(ACCEPTS_PER_TURN):
                    sock, address = self.socket.accept()
                    sock.close()
                    shed.append(address)
            self.reserve.take()
            for address in shed:
                self._tell_shed(address)
            if shed:
                return
        self.stopReading()
        cast(IReactorTime, self.reactor).callLater(RETRY_DELAY, self._try_again)

    def _tell_shed(self, address: Any) -> None:
        on_shed = getattr(self.factory, "out_of_descriptors", None)
        if on_shed is not None:
            on_shed(self._buildAddr(address))

    def _try_again(self) -> None:
        self.reserve.take()
        if self.connected and not self.disconnecting and not self.paused:
            self.startReading()
