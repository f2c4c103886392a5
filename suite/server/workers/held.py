"""An endpoint of a supervisor: it holds what its workers serve, and answers nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from typing_extensions import override

from suite.config.faults import Faults
from suite.endpoints.descriptions import Description
from suite.endpoints.sockets import ListeningSocket
from suite.engine.binding import with_scope
from suite.server.endpoint import RunningEndpoint
from suite.server.surroundings import Surroundings

#: Tells all workers something: its name, and the arguments of its handler there.
Tell = Callable[..., None]


class HeldPort:
    """In place of a port: where *sock* listens.

    :ivar connected: whether it does, as a port of Twisted's says.
    """

    connected = True

    def __init__(self, sock: ListeningSocket) -> None:
        self._sock = sock

    def getHost(self) -> IAddress:  # noqa: N802  # Twisted's name
        """`IListeningPort.getHost`."""
        name: Any = with_scope(self._sock.sock.getsockname())
        if self._sock.transport == "UNIX":
            return UNIXAddress(os.fsencode(name))
        kind: Any = "UDP" if self._sock.transport == "UDP" else "TCP"
        return IPv6Address(kind, *name[:2]) if len(name) == 4 else IPv4Address(kind, *name)

    def stopReading(self) -> None:  # noqa: N802  # Twisted's name
        """Workers do."""

    def startReading(self) -> None:  # noqa: N802  # Twisted's name
        """Workers do."""


class HeldEndpoint(RunningEndpoint):
    """An endpoint that workers serve.

    What holds for it (its description, its faults, whether it is paused) is what a worker that starts later
    begins with.

    :param tell: tells all workers what has been changed by an operator.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        description: Description,
        context: SSL.Context | None,
        sockets: Sequence[ListeningSocket],
        tell: Tell,
    ) -> None:
        super().__init__(surroundings, description, context, sockets)
        self._tell = tell
        self._reloading = False

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.description.endpoint.name

    @override
    def _serve(self, sock: ListeningSocket) -> None:
        self.ports.append(HeldPort(sock))  # type: ignore[arg-type]  # as much of one as is asked for here

    @override
    def _detach(self, sock: ListeningSocket, port: Any) -> None:
        """Nothing is attached."""

    @override
    def turn_away(self) -> None:
        """Workers have."""

    @override
    def _replace_datagram_protocols(self) -> None:
        """There are none."""

    @override
    def change(
        self, description: Description, context: SSL.Context | None, sockets: Sequence[ListeningSocket]
    ) -> None:
        self._reloading = True  # the workers have changed already
        try:
            super().change(description, context, sockets)
        finally:
            self._reloading = False

    @override
    def change_faults(self, faults: Faults) -> None:
        super().change_faults(faults)
        if not self._reloading:
            self._tell("faults", self.name, faults)

    @override
    def pause(self) -> None:
        super().pause()
        self._tell("pause", self.name, True)

    @override
    def resume(self) -> None:
        super().resume()
        self._tell("pause", self.name, False)
