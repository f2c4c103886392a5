"""What ports do about their sockets beyond Twisted's own.

- `ClosesOnBindFailure`: a socket that cannot be bound is closed at once; Twisted's UDP and UNIX ports leave
  that to the garbage collector.
- `Detachable`: a socket that is its owner's outlives the port.
- `watchable`: which descriptors a reactor can watch.
- `with_scope`: an address that says on which interface it is valid.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet.base import BasePort
from twisted.internet.error import CannotListenError
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure
from typing_extensions import override

from suite.system import SELECTABLE


def watchable(reactor: object) -> int:
    """The first descriptor that *reactor* cannot watch.

    Where the limit on descriptors is lower, none is ever as high; but a sandbox may forbid to set it.
    """
    # On Windows, select counts descriptors instead.
    select = isinstance(reactor, SelectReactor) and sys.platform != "win32"
    return SELECTABLE if select else sys.maxsize


def with_scope(address: Any) -> Any:
    """The address of a socket; the host of a link-local one has its interface behind a percent sign.

    It is valid on one interface only (RFC 4007, section 11).
    """
    if isinstance(address, tuple) and len(address) == 4 and address[3]:
        host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return (host, *address[1:])
    return address


class ClosesOnBindFailure(BasePort):
    """A mixin for ports: if binding fails, the socket is closed at once."""

    #: The socket while `startListening` binds it.
    _unbound: socket.socket | None = None

    @override
    def createInternetSocket(self) -> socket.socket:
        self._unbound = super().createInternetSocket()
        return self._unbound

    def startListening(self) -> None:
        """`IListeningPort.startListening`."""
        try:
            super().startListening()  # type: ignore[misc]  # implemented by the port
        except CannotListenError:
            if self._unbound is not None:
                self._unbound.close()
            raise
        finally:
            self._unbound = None


class Detachable(BasePort):
    """A mixin for ports that can run on a socket that stays its owner's.

    :cvar _owns_socket: whether the port closes its socket.
    """

    _owns_socket = True
    _detached = False

    def detach(self) -> None:
        """Leave a socket that is its owner's; it stays open, and its queue waits.

        Do nothing if the port has died of an error.
        """
        if not self.connected:
            return
        self.stopReading()
        self._detached = True
        self.connectionLost(Failure(CONNECTION_DONE))

    # The reactor knows selectables by descriptor, and this one's may be another port's by now.

    @override
    def stopReading(self) -> None:
        if not self._detached:
            super().stopReading()

    @override
    def stopWriting(self) -> None:
        """Do nothing: a port never writes."""
