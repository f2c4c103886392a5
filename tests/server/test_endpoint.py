"""`suite.server.endpoint` on real sockets, without a running reactor: ports that fail or have died."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from suite import certs
from suite.answers.answer import Answer
from suite.answers.table import ANSWERS
from suite.config.faults import Fault, Faults, Kind
from suite.echo import Echo
from suite.endpoints.inherited import Inherited
from suite.endpoints.sockets import Sockets
from suite.engine.hello import HelloTLS
from suite.engine.tls import TLSServer
from suite.faults.tls import FaultyHelloTLS, FaultyTLS
from suite.server.endpoint import RunningEndpoint
from suite.server.surroundings import Surroundings
from tests.engine.test_stream import context_of
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


def test_the_guard_of_a_worker_counts_together_with_the_others(
    endpoint: RunningEndpoint, reactor: Any, tmp_path: Path
) -> None:
    """From when it is made, and on other sockets after a reload; so do faults of datagrams."""
    from suite.guard.shared import Shared, make_counter

    shared, counter = Shared(2), make_counter()
    other = shared.of(2).endpoint(4, counter)
    sockets = endpoint.sockets
    surroundings = Surroundings(reactor)
    surroundings.shared = shared.of(1)
    for slot, sock in enumerate(sockets, 4):
        sock.slot, sock.counter = slot, counter
    worker = RunningEndpoint(surroundings, endpoint.description, None, sockets[:1])
    worker.start()
    if worker.guard is not None:
        assert worker.guard.share is not None
        assert (worker.guard.share.numbers.next(), other.numbers.next()) == (1, 2)
        assert worker.decider.claim is not None
        assert worker.decider.claim("this")
        assert not other.claim("this")
        assert other.admits(10_000, 10_000)
        assert worker.guard.refuses(None)
        worker.change(worker.description, None, sockets[1:])
        assert worker.guard.share.slot == 5
        assert not worker.guard.refuses(None)
    else:
        for count, socks in enumerate((sockets[:1], sockets[1:]), 1):
            changed = worker.description.endpoint
            changed = replace(changed, faults=Faults((Fault(Kind.LOSS, 1.0 / count),)))
            worker.change(replace(worker.description, endpoint=changed), None, socks)
            assert worker.datagram_faults is not None
            assert worker.datagram_faults.share is not None
            assert worker.datagram_faults.share.slot == 3 + count
            assert worker.datagram_faults.share.numbers.next() == count
    now(worker.close())
    for sock in sockets:
        sock.counter = None
    shared.close()
    os.close(counter)


def test_a_reload_replaces_a_port_that_has_died(endpoint: RunningEndpoint, reactor: Any) -> None:
    dead: Any = endpoint.ports[0]
    reactor._disconnectSelectable(dead, CONNECTION_LOST, True)
    endpoint.change(endpoint.description, None, endpoint.sockets)
    assert len(endpoint.lines()) == 2
    readers = reactor.getReaders()
    assert dead not in readers
    assert all(port in readers for port in endpoint.ports)


class WantsHello(Echo):
    wants_client_hello = True


def test_only_answers_that_want_the_client_hello_have_it_kept(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a reload changes that without touching the port; others have the ordinary transport."""
    wants = Answer("wants", "", WantsHello, None)
    monkeypatch.setattr("suite.server.answering.ANSWERS", {**ANSWERS, "wants": wants})
    certs.mint(tmp_path)
    listen = f"ssl:0:privateKey={tmp_path}/server.key:certKey={tmp_path}/server.pem"
    description = described(tmp_path, listen)
    context = context_of(tmp_path)
    faults = Faults((Fault(Kind.FRAGMENT, 50),))
    with ExitStack() as undo:
        sockets = [*Sockets(Inherited({})).open(description, undo)]
        surroundings = Surroundings(reactor)
        endpoint = RunningEndpoint(surroundings, description, context, sockets)
        endpoint.start()
        (port,) = endpoint.ports
        for answer, bad, transport in (
            ("echo", Faults(), TLSServer),
            ("wants", Faults(), HelloTLS),
            ("wants", faults, FaultyHelloTLS),
            ("echo", faults, FaultyTLS),
            ("wants", Faults(), HelloTLS),
            ("echo", Faults(), TLSServer),
        ):
            changed = replace(description.endpoint, answer=answer, faults=bad)
            endpoint.change(replace(description, endpoint=changed), context, sockets)
            assert endpoint.ports == [port]
            assert cast(Any, port).transport is transport
        now(endpoint.close())
        surroundings.reserve.drop()
