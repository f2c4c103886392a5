"""What Twisted's UDP and UNIX ports leave to the garbage collector."""

from __future__ import annotations

from socket import socket

from twisted.internet.base import BasePort
from twisted.internet.error import CannotListenError
from typing_extensions import override


class ClosesOnBindFailure(BasePort):
    """Mixed into a port: a socket that cannot be bound is closed at once."""

    _unbound: socket | None = None

    @override
    def createInternetSocket(self) -> socket:
        self._unbound = super().createInternetSocket()
        return self._unbound

    def startListening(self) -> None:
        """`IListeningPort.startListening`."""
        try:
            super().startListening()  # type: ignore[misc]  # the port's
        except CannotListenError:
            if self._unbound is not None:
                self._unbound.close()
            raise
        finally:
            self._unbound = None
