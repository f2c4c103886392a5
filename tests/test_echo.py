"""`suite.echo`: every byte comes back, to admitted peers only, and nothing is buffered without limit."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.testing import FakeDatagramTransport, StringTransport
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import alsoProvides
from zope.interface.verify import verifyObject

from suite.echo import Echo, EchoDatagram, EchoFactory, reply
from suite.engine.interfaces import IEchoesDatagrams
from suite.guard.datagrams import DatagramPolicy

SOURCE = ("192.0.2.1", 40000)


def connected(transport: Any = None) -> tuple[Echo, Any]:
    """An `Echo` and the transport it is connected to: *transport*, or else a `StringTransport`."""
    transport = StringTransport() if transport is None else transport
    protocol = EchoFactory().buildProtocol(IPv4Address("TCP", *SOURCE))
    assert isinstance(protocol, Echo)
    protocol.makeConnection(transport)
    return protocol, transport


@given(st.binary())
def test_the_reply_is_what_came(data: bytes) -> None:
    assert reply(data) == data


@given(st.lists(st.binary(min_size=1)))
def test_every_byte_comes_back_in_order(chunks: list[bytes]) -> None:
    protocol, transport = connected()
    for sent, chunk in enumerate(chunks, start=1):
        protocol.dataReceived(chunk)
        assert transport.value() == b"".join(chunks[:sent])


def test_all_eight_bits_come_back() -> None:
    protocol, transport = connected()
    protocol.dataReceived(bytes(range(256)) * 1000)
    assert transport.value() == bytes(range(256)) * 1000


def test_nothing_is_sent_unasked() -> None:
    assert connected()[1].value() == b""


def test_two_connections_have_nothing_to_do_with_each_other() -> None:
    factory = EchoFactory()
    one, other = factory.buildProtocol(None), factory.buildProtocol(None)
    assert one is not None
    assert other is not None
    transport, untouched = StringTransport(), StringTransport()
    one.makeConnection(transport)
    other.makeConnection(untouched)
    one.dataReceived(b"hola")
    assert transport.value() == b"hola"
    assert untouched.value() == b""


def test_a_peer_that_does_not_read_is_paused() -> None:
    """The transport is its own streaming producer: what it cannot send stops what it reads."""
    _, transport = connected()
    assert transport.producer is transport
    assert transport.streaming is True


def test_a_peer_that_ends_its_side_is_let_go_once_it_has_its_echo() -> None:
    """A producer that is still registered would keep the connection open forever."""
    protocol, transport = connected()
    order: list[str] = []

    def note(name: str) -> None:
        method = getattr(transport, name)

        def noted() -> None:
            order.append(name)
            method()

        setattr(transport, name, noted)

    note("unregisterProducer")
    note("loseConnection")
    protocol.dataReceived(b"hola mundo")
    protocol.readConnectionLost()
    assert order == ["unregisterProducer", "loseConnection"]
    assert transport.producer is None
    assert transport.disconnecting
    assert not transport.disconnected, "aborted: what was not sent yet would be lost"
    assert transport.value() == b"hola mundo"


def test_nothing_is_closed_before_the_peer_ends_its_side() -> None:
    protocol, transport = connected()
    protocol.dataReceived(b"hola")
    assert not transport.disconnecting


def test_the_end_of_our_own_side_changes_nothing() -> None:
    protocol, transport = connected()
    protocol.readConnectionLost()
    protocol.writeConnectionLost()
    assert transport.value() == b""


def test_a_lost_connection_is_no_error() -> None:
    protocol, transport = connected()
    protocol.dataReceived(b"hola")
    protocol.connectionLost(Failure(ConnectionDone()))
    assert transport.value() == b"hola"


def test_it_tells_transports_that_it_can_be_half_closed() -> None:
    assert verifyObject(IHalfCloseableProtocol, connected()[0])


def test_small_replies_are_not_held_back_on_tcp() -> None:
    """Nagle's algorithm is disabled where it exists."""
    switched: list[object] = []
    transport: Any = StringTransport()
    transport.setTcpNoDelay = switched.append
    alsoProvides(transport, ITCPTransport)
    connected(transport)
    assert switched == [True]


def test_the_log_does_not_hear_of_every_port() -> None:
    assert not EchoFactory.noisy
    assert not EchoDatagram.noisy


# UDP.


class Asked(DatagramPolicy):
    """A policy that answers all ports, or all but one, and records the sources that it decides about."""

    def __init__(self, *, but: int | None = None) -> None:
        super().__init__()
        self.but = but
        self.sources: list[tuple[str, int]] = []

    @override
    def admit(self, source: Any, count: int = 1, to_many: bool = False) -> int:
        self.sources.append(source)
        return count if source[1] != self.but and not to_many else 0


def answers(data: bytes, *sources: tuple[str, int], policy: DatagramPolicy) -> list[tuple[bytes, object]]:
    """The datagrams that `EchoDatagram` sends, and where to, when each of *sources* sends *data*."""
    transport = FakeDatagramTransport()
    protocol = EchoDatagram(policy)
    protocol.makeConnection(transport)
    for source in sources:
        protocol.datagramReceived(data, source)
    written: list[tuple[bytes, object]] = transport.written
    return written


@given(st.binary())
def test_a_datagram_has_one_reply_which_is_itself(data: bytes) -> None:
    assert answers(data, SOURCE, policy=Asked()) == [(data, SOURCE)]


@pytest.mark.parametrize("size", [0, 1, 512, 1472, 8192, 65507])
def test_datagrams_of_every_size_come_back_and_none_grows(size: int) -> None:
    ((sent, _),) = answers(b"x" * size, SOURCE, policy=Asked())
    assert len(sent) == size


@given(st.binary())
def test_a_source_that_is_refused_gets_nothing(data: bytes) -> None:
    assert answers(data, SOURCE, policy=Asked(but=SOURCE[1])) == []


def test_every_source_is_asked_about_and_answered_by_itself() -> None:
    policy = Asked(but=7)
    sources = [("192.0.2.1", 40000), ("192.0.2.2", 7), ("2001:db8::1", 40001), ("192.0.2.1", 40000)]
    written = answers(b"hola", *sources, policy=policy)
    assert policy.sources == sources
    assert written == [(b"hola", source) for source in sources if source[1] != 7]


def test_a_port_that_answers_in_batches_asks_the_same_policy() -> None:
    policy = DatagramPolicy()
    protocol = EchoDatagram(policy)
    assert verifyObject(IEchoesDatagrams, protocol)
    source = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 40000, bytes([127, 0, 0, 1]))
    assert not protocol.answers([source])  # not before it is known
    assert protocol.admit(source, 3, False) == 3
    assert protocol.answers([source])
    policy.add_own_port(40000)
    assert not protocol.answers([source])
    assert protocol.admit(source, 3, False) == 0
