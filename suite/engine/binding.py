"""Close the socket at once when binding fails.

Twisted's UDP and UNIX ports leave that to the garbage collector.
"""

from __future__ import annotations

from socket import socket

from twisted.internet.base import BasePort
from twisted.internet.error import CannotListenError
from typing_extensions import override


class ClosesOnBindFailure(BasePort):
    """A mixin for ports: if binding fails, the socket is closed at once."""

    #: The socket while `startListening` binds it.
    _unbound: socket | None = None

    @override
    def createInternetSocket(self) -> socket:
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
