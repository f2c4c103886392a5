"""Accepting connections in bounded turns, also when there is no descriptor left for them.

Rules: at the most `ACCEPTS_PER_TURN` are accepted before every other descriptor has had its turn; out of
descriptors, each port gives up the one that it holds in reserve, takes what waits and closes it: a peer
that cannot be served is told so, and the others notice nothing.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Any, Final, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

log = Logger()

ACCEPTS_PER_TURN: Final = 64

#: More than wait anywhere: without an end, a flood could keep a port from closing.
LONGEST_QUEUE: Final = 65_536

#: Where even the reserve is of no help, a port rests so long, in seconds, instead of asking again and again.
RETRY_DELAY: Final = 0.5

#: The end of one connection only (accept(2): Linux passes on errors of the network, too).
TRANSIENT_ACCEPT_ERRORS: Final = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR})


class AcceptingPort(tcp.Port):
    """A port of connections.

    Its factory may have a method ``out_of_descriptors(address)``: it is told whose connection was closed
    because there was no descriptor for it.
    """

    _reserve: int | None = None

    @override
    def startListening(self) -> None:
        super().startListening()
        self._take_reserve()

    @override
    def connectionLost(self, reason: Failure) -> None:
        self._drop_reserve()
        super().connectionLost(reason)

    def _drop_reserve(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _take_reserve(self) -> None:
        with suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    @override
    def doRead(self) -> None:
        self._accept_some()

    def accept_all(self) -> None:
        """Accept what waits: to close the port would reset it."""
        for _ in range(0, LONGEST_QUEUE, ACCEPTS_PER_TURN):
            if not self._accept_some():
                return

    def _accept_some(self) -> bool:
        """Whether there may be more."""
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
            try:
                self._begin(sock, address)
            except Exception:  # noqa: BLE001  # one connection must not close the port
                log.failure("a connection to {port} could not begin", port=self)
                sock.close()
        return True

    def _begin(self, sock: socket.socket, address: Any) -> None:
        if (
            isinstance(address, tuple) and len(address) == 4 and address[3]
        ):  # the address of a link, which its name belongs to
            host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            address = (host, *address[1:])
        protocol = cast(IProtocolFactory, self.factory).buildProtocol(self._buildAddr(address))
        if protocol is None:
            sock.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        protocol.makeConnection(self.transport(sock, protocol, address, self, number, self.reactor))

    def _shed(self, error: OSError) -> None:
        """Close the connections that wait, with the descriptor that is there for that."""
        if error.errno in (errno.EMFILE, errno.ENFILE) and self._reserve is not None:
            self._drop_reserve()
            on_shed = getattr(self.factory, "out_of_descriptors", None)
            shed = []
            # Nothing in this loop may open anything.
            with suppress(OSError):
                for _ in range(ACCEPTS_PER_TURN):
                    sock, address = self.socket.accept()
                    sock.close()
                    shed.append(address)
            self._take_reserve()
            for address in shed:
                if on_shed is not None:
                    on_shed(self._buildAddr(address))
            if shed:
                return
        self.stopReading()
        cast(IReactorTime, self.reactor).callLater(RETRY_DELAY, self._resume)

    def _resume(self) -> None:
        if self._reserve is None:
            self._take_reserve()
        if self.connected and not self.disconnecting:
            self.startReading()
