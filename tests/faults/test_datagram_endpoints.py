"""UDP endpoints whose faults change while they run: real sockets, without a running reactor."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from suite.config.faults import NO_FAULTS, Fault, Faults, Kind
from suite.echo import EchoDatagram
from suite.endpoints.inherited import Inherited
from suite.endpoints.sockets import Sockets
from suite.engine.linux.mmsg import UDP_SEGMENT
from suite.faults.datagrams import FaultyDatagrams
from suite.server.endpoint import RunningEndpoint
from suite.server.surroundings import Surroundings
from tests.helpers import SuiteReactor, described, now

if sys.platform != "linux":
    pytest.skip("needs epoll, and trains", allow_module_level=True)

LATE = Faults((Fault(Kind.DELAY, 0.2),))
LOST = Faults((Fault(Kind.LOSS, 1.0),))


class EndpointFixture:
    """An endpoint on two sockets, which is read from when the test says so, and a client of the first one."""

    def __init__(self, reactor: Any, clock: Clock, directory: Path, undo: ExitStack) -> None:
        self.clock = clock
        reactor.seconds, reactor.callLater = clock.seconds, clock.callLater
        description = described(directory, "udp:0:interface=0.0.0.0")
        both = [sock for _ in range(2) for sock in Sockets(Inherited({})).open(description, undo)]
        self.sockets = both
        surroundings = Surroundings(reactor)
        self.endpoint = RunningEndpoint(surroundings, description, None, both)
        undo.callback(surroundings.reserve.drop)
        undo.callback(lambda: now(self.endpoint.close()))
        self.endpoint.start()
        self.client = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.client.connect(("127.0.0.7", both[0].sock.getsockname()[1]))
        self.client.settimeout(30)

    def reload(self, faults: Faults) -> None:
        before = self.endpoint.description
        description = replace(before, endpoint=replace(before.endpoint, faults=faults))
        self.endpoint.change(description, None, self.endpoint.sockets)

    def read(self) -> None:
        """Read what has come."""
        port: Any = self.endpoint.ports[0]
        port.doRead()

    def ask(self, data: bytes) -> None:
        self.client.send(data)
        self.read()

    def answered(self) -> list[bytes]:
        """What has come back by now."""
        self.client.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.client.recv(65_535))
        except BlockingIOError:
            return found
        finally:
            self.client.settimeout(30)

    @property
    def kinds(self) -> list[type]:
        ports: list[Any] = self.endpoint.ports
        return [type(port.protocol) for port in ports]


@pytest.fixture
def fixture(tmp_path: Path) -> Iterator[EndpointFixture]:
    from suite.engine.reactor import EngineReactor

    reactor: Any = EngineReactor()
    clock = Clock()
    with ExitStack() as undo:
        yield EndpointFixture(reactor, clock, tmp_path, undo)
    assert not clock.getDelayedCalls()
    for reader in reactor.removeAll():
        reader.connectionLost(Failure(CONNECTION_DONE))
    reactor.waker.connectionLost(Failure(CONNECTION_DONE))
    reactor._poller.close()


def test_without_faults_nothing_is_between(fixture: EndpointFixture) -> None:
    ports = [*fixture.endpoint.ports]
    fixture.reload(NO_FAULTS)
    fixture.reload(Faults((Fault(Kind.LATENCY, 1.0),)))  # of streams
    assert fixture.kinds == [EchoDatagram] * 2
    assert fixture.endpoint.ports == ports
    assert fixture.endpoint.datagram_faults is None


def test_from_none_to_some_and_back(fixture: EndpointFixture) -> None:
    """What is queued on the socket, as trains too, is answered once; what is late stays late."""
    train = os.urandom(700)
    parts = [train[start : start + 300] for start in range(0, 700, 300)]
    fixture.client.send(b"queued")
    fixture.client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 300)
    fixture.client.send(train)
    fixture.client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    fixture.reload(LATE)
    assert fixture.kinds == [FaultyDatagrams] * 2
    fixture.read()
    assert fixture.answered() == []
    fixture.client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 300)
    fixture.client.send(train)
    fixture.client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    fixture.reload(NO_FAULTS)
    assert fixture.kinds == [EchoDatagram] * 2
    fixture.read()
    assert fixture.answered() == parts
    fixture.clock.advance(0.2)
    assert fixture.answered() == [b"queued", *parts]  # from 127.0.0.7: the client is connected to that
    assert [sock.sock.fileno() >= 0 for sock in fixture.sockets] == [True, True]


def test_from_some_to_others(fixture: EndpointFixture) -> None:
    """The ports stay as they are, and so does what is late."""
    fixture.reload(LATE)
    ports = [*fixture.endpoint.ports]
    fixture.ask(b"late")
    fixture.reload(LOST)
    fixture.ask(b"lost")
    assert fixture.endpoint.ports == ports
    fixture.clock.advance(0.2)
    assert fixture.answered() == [b"late"]
    assert fixture.endpoint.summary().startswith("faults (delay 1, loss 1)")


def test_a_change_of_sockets_leaves_what_is_late(fixture: EndpointFixture) -> None:
    fixture.reload(LATE)
    fixture.ask(b"late")
    endpoint = fixture.endpoint
    endpoint.change(endpoint.description, None, endpoint.sockets[:1])
    fixture.clock.advance(0.2)
    assert fixture.answered() == [b"late"]


def test_changed_at_run_time(fixture: EndpointFixture) -> None:
    """As the control socket does it, without a reload."""
    fixture.endpoint.change_faults(LOST)
    fixture.ask(b"lost")
    fixture.endpoint.change_faults(NO_FAULTS)
    fixture.ask(b"there")
    assert fixture.answered() == [b"there"]


def test_a_drain_waits_for_what_is_late(fixture: EndpointFixture) -> None:
    fixture.reload(LATE)
    fixture.ask(b"late")
    now(fixture.endpoint.close(keep_datagrams=True))
    drained: list[None] = []
    fixture.endpoint.drain(5.0).addCallback(drained.append)
    fixture.ask(b"later")
    assert drained == []
    fixture.clock.advance(0.2)
    assert drained == [None]
    assert fixture.answered() == [b"late", b"later"]


def test_the_end_drops_what_is_late(fixture: EndpointFixture) -> None:
    fixture.reload(LATE)
    fixture.ask(b"late")
    drained = fixture.endpoint.drain(0.1)
    fixture.clock.advance(0.1)
    assert drained.called
    now(fixture.endpoint.close())
    assert not fixture.clock.getDelayedCalls()


def test_an_abort_ends_a_drain(fixture: EndpointFixture) -> None:
    fixture.reload(LATE)
    fixture.ask(b"late")
    drained = fixture.endpoint.drain(5.0)
    fixture.endpoint.abort()
    assert drained.called
    assert not fixture.clock.getDelayedCalls()


def test_a_reactor_that_opens_its_own_ports(tmp_path: Path) -> None:
    """As on Windows: the port stays, and what answers changes."""

    class Port:
        connected = True
        sent: list[tuple[bytes, Any]]

        def __init__(self, protocol: Any) -> None:
            self.sent = []
            self.protocol = protocol
            protocol.makeConnection(self)

        def write(self, data: bytes, addr: Any) -> None:
            self.sent.append((data, addr))

        def getHost(self) -> Any:
            return IPv4Address("UDP", "127.0.0.1", 1234)

        def stopListening(self) -> None:
            self.protocol.doStop()

    reactor: Any = SuiteReactor()
    opened: list[Port] = []

    def listen(port: int, protocol: Any, interface: str = "") -> Port:
        opened.append(Port(protocol))
        return opened[0]

    reactor.listenUDP = listen
    description = described(tmp_path, "udp:0")
    endpoint = RunningEndpoint(Surroundings(reactor), description, None)
    now(endpoint.open())
    endpoint.start()
    (port,) = opened
    client = ("127.0.0.1", 40_000)
    for faults, kind in ((LOST, FaultyDatagrams), (NO_FAULTS, EchoDatagram), (LATE, FaultyDatagrams)):
        endpoint.change_faults(faults)
        assert type(port.protocol) is kind
        port.protocol.datagramReceived(b"hola", client)
    assert port.sent == [(b"hola", client)]
    reactor.advance(0.2)
    assert port.sent == [(b"hola", client)] * 2
    now(endpoint.close())
