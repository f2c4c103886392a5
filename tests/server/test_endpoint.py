"""`suite.server.endpoint` on real sockets, without a running reactor: ports that fail or have died."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from suite.endpoints.inherited import Inherited
from suite.endpoints.sockets import Sockets
from suite.server.endpoint import RunningEndpoint, Surroundings
from tests.helpers import described, now

if sys.platform != "linux":
    pytest.skip("needs epoll", allow_module_level=True)


@pytest.fixture
def reactor() -> Iterator[Any]:
    from suite.engine.reactor import EngineReactor

    reactor: Any = EngineReactor()
    yield reactor
    for reader in reactor.removeAll():
        reader.connectionLost(Failure(CONNECTION_DONE))
    reactor.waker.connectionLost(Failure(CONNECTION_DONE))
    reactor._poller.close()


@pytest.fixture(params=["tcp:0", "udp:0"])
def endpoint(request: pytest.FixtureRequest, reactor: Any, tmp_path: Path) -> Iterator[RunningEndpoint]:
    """An endpoint that serves two sockets, as one of several inherited sockets with one name does."""
    description = described(tmp_path, request.param)
    with ExitStack() as undo:
        both = [sock for _ in range(2) for sock in Sockets(Inherited({})).open(description, undo)]
        surroundings = Surroundings(reactor)
        endpoint = RunningEndpoint(surroundings, description, None, both)
        endpoint.start()
        yield endpoint
        now(endpoint.close())
        surroundings.reserve.drop()


def test_a_port_that_cannot_be_closed_keeps_no_other_open(
    endpoint: RunningEndpoint, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[Any] = [*endpoint.ports]

    def fail() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(ports[1], "detach", fail)
    with pytest.raises(RuntimeError, match="no"):
        now(endpoint.close())
    assert ports[0] not in reactor.getReaders()
    assert endpoint.ports == []
    monkeypatch.undo()
    ports[1].detach()


def test_a_port_that_has_died_ends_like_the_others(endpoint: RunningEndpoint, reactor: Any) -> None:
    ports: list[Any] = [*endpoint.ports]
    reactor._disconnectSelectable(ports[0], CONNECTION_LOST, True)
    assert len(endpoint.lines()) == 1
    now(endpoint.close())
    assert ports[1] not in reactor.getReaders()


def test_a_reload_replaces_a_port_that_has_died(endpoint: RunningEndpoint, reactor: Any) -> None:
    dead: Any = endpoint.ports[0]
    reactor._disconnectSelectable(dead, CONNECTION_LOST, True)
    endpoint.change(endpoint.description, None, endpoint.sockets)
    assert len(endpoint.lines()) == 2
    readers = reactor.getReaders()
    assert dead not in readers
    assert all(port in readers for port in endpoint.ports)
