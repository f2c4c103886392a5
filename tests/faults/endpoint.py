"""An endpoint with faults, in memory."""

from __future__ import annotations

from typing import Any

from twisted.logger import formatEvent

from suite.config.faults import Fault, Faults
from suite.config.limits import Limits
from suite.faults.decide import Decider
from suite.faults.streams import FaultyStream
from tests.guard.endpoint import PEER, GuardedEndpoint, Transport


class FaultyEndpoint(GuardedEndpoint):
    """An endpoint with *faults*, whose transports are like those of TCP, or of TLS."""

    def __init__(
        self, *entries: Fault, limits: Limits | None = None, tls: bool = False, **options: Any
    ) -> None:
        super().__init__(limits, handshakes=tls)
        self.tls = tls
        self.decider = Decider(Faults(entries, **options))
        self.factory.decider = self.decider

    def connect(self, address: Any = PEER, *, header: bool = False, sock: Any = None) -> tuple[Any, Any]:
        protocol = self.factory.buildProtocol(address)
        assert isinstance(protocol, FaultyStream)
        transport = Transport(address)
        transport.preamble_complete = not header
        transport.protocol = protocol
        transport.unsent = 0
        if not self.tls:
            del transport.handshake_complete
        protocol.makeConnection(transport)
        return protocol, transport

    def said(self) -> list[str]:
        """The log events of the guard and the faults, formatted."""
        return [formatEvent(event) for event in self.events]
