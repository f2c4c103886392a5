"""UDP sockets of clients: several addresses, on a clock of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from twisted.internet.testing import MemoryReactorClock

from suite.client.dial.addresses import Address
from suite.client.dial.datagrams import Datagrams
from suite.client.dial.failures import TargetError
from tests.running import PATIENCE


@pytest.fixture
def servers() -> Iterator[list[socket.socket]]:
    servers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for server in servers:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
    yield servers
    for server in servers:
        server.close()


class Client:
    """A client of both *servers*, and what it has heard."""

    def __init__(self, servers: list[socket.socket], source: str | None = None) -> None:
        self.reactor = MemoryReactorClock()
        self.received: list[bytes] = []
        self.failed: list[TargetError] = []
        addresses = [Address(socket.AF_INET, server.getsockname()) for server in servers]
        self.datagrams = Datagrams(
            self.reactor, addresses, self.received.append, self.failed.append, timeout=5, source=source
        )


def test_a_silent_address_is_passed_over(servers: list[socket.socket]) -> None:
    client = Client(servers)
    client.datagrams.send(b"hello")
    assert servers[0].recv(9) == b"hello"
    client.reactor.advance(2.4)
    assert client.datagrams.address.address == servers[0].getsockname()
    client.reactor.advance(0.1)  # half of the timeout, for one of two addresses
    data, sender = servers[1].recvfrom(9)
    assert data == b"hello"
    servers[1].sendto(b"hello", sender)
    client.datagrams.doRead()
    assert client.received == [b"hello"]
    assert client.datagrams.address.address == servers[1].getsockname()
    assert not client.reactor.getDelayedCalls()
    client.datagrams.close()


def test_an_address_that_answers_is_kept(servers: list[socket.socket]) -> None:
    client = Client(servers)
    client.datagrams.send(b"hello")
    servers[0].sendto(b"hello", servers[0].recvfrom(9)[1])
    client.datagrams.doRead()
    client.reactor.advance(60)
    client.datagrams.send(b"again")
    assert servers[0].recv(9) == b"again"
    assert (client.received, client.failed) == ([b"hello"], [])
    client.datagrams.close()


def test_where_all_are_silent_the_last_one_stays(servers: list[socket.socket]) -> None:
    client = Client(servers)
    client.datagrams.send(b"hello")
    client.reactor.advance(60)
    assert client.datagrams.address.address == servers[1].getsockname()
    assert (client.received, client.failed) == ([], [])
    client.datagrams.close()
    assert not client.reactor.getDelayedCalls()


def test_the_source_is_our_address(servers: list[socket.socket]) -> None:
    client = Client(servers, source="127.0.0.9")
    client.datagrams.send(b"hello")
    assert servers[0].recvfrom(9)[1][0] == "127.0.0.9"
    client.datagrams.close()
