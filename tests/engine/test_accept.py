"""`suite.engine.accept`: connections whose descriptors the reactor cannot watch."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.testing import MemoryReactorClock

from suite.engine import accept
from suite.engine.accept import Reserve
from suite.engine.binding import watchable
from suite.engine.plain import TCPPort


class Refusing(Factory):
    """Counts the connections that it is told have been refused; there are to be no others."""

    def __init__(self) -> None:
        self.refused: list[Any] = []

    def out_of_descriptors(self, address: Any) -> None:
        self.refused.append(address)


def test_only_select_cannot_watch_every_descriptor() -> None:
    assert watchable(MemoryReactorClock()) == sys.maxsize
    assert watchable(object.__new__(SelectReactor)) == 1024


def test_a_connection_that_cannot_be_watched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twisted's select would drop it, with an error, in the middle of a turn."""
    factory = Refusing()
    monkeypatch.setattr(accept, "watchable", lambda _: 0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        port = TCPPort(0, factory, reactor=MemoryReactorClock())
        reserve = Reserve()
        port.serve(listening, reserve)
        with socket.create_connection(listening.getsockname(), timeout=10) as client:
            port.doRead()
            assert client.recv(1) == b""
            assert [(peer.host, peer.port) for peer in factory.refused] == [client.getsockname()]
        port.detach()
        reserve.drop()
