"""PROXY headers, and the connections that begin with one, in memory."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from suite.config.limits import PROXY_TIMEOUT
from suite.echo import EchoFactory
from suite.endpoints.proxy_protocol import LONGEST, LONGEST_LINE, SIGNATURE, ProxyFactory, ProxyHeader

V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + b"\xdc\x04\x01\xbb"
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + b"\xdc\x04\x01\xbb"
)
UNIX = b"/run/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")

CLIENT = IPv4Address("TCP", "192.0.2.1", 56324)
SERVER = IPv4Address("TCP", "192.0.2.2", 443)
CLIENT6 = IPv6Address("TCP", "2001:db8::1", 56324)
SERVER6 = IPv6Address("TCP", "2001:db8::2", 443)

LINE = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"


def block(command: int = 0x21, family: int = 0x11, body: bytes = V4, length: int | None = None) -> bytes:
    """A version 2 header."""
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + body


#: Headers, and the addresses that they contain.
GOOD: dict[str, tuple[bytes, IAddress | None, IAddress | None]] = {
    "version 1, IPv4": (LINE, CLIENT, SERVER),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 56324 443\r\n", CLIENT6, SERVER6),
    "version 1, port 0": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 0 65535\r\n",
        IPv4Address("TCP", "192.0.2.1", 0),
        IPv4Address("TCP", "192.0.2.2", 65535),
    ),
    "version 1, unknown, bare": (b"PROXY UNKNOWN\r\n", None, None),
    "version 1, unknown, with more": (b"PROXY UNKNOWN ffff:f...f:ffff \xff 65535\r\n", None, None),
    "version 1, as long as can be": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None, None),
    "version 2, IPv4": (block(), CLIENT, SERVER),
    "version 2, IPv6": (block(family=0x21, body=V6), CLIENT6, SERVER6),
    "version 2, UNIX": (
        block(family=0x31, body=UNIX),
        UNIXAddress(b"/run/client"),
        UNIXAddress(b"\0abstract"),
    ),
    "version 2, UNIX, without names": (
        block(family=0x31, body=bytes(216)),
        UNIXAddress(None),
        UNIXAddress(None),
    ),
    "version 2, local": (block(command=0x20, family=0, body=b""), None, None),
    "version 2, local, with addresses": (block(command=0x20), None, None),
    "version 2, local, with nonsense": (block(command=0x20, family=0xFF, body=b"?"), None, None),
    "version 2, unspecified": (block(family=0, body=b"whatever"), None, None),
    "version 2, datagrams": (block(family=0x12), None, None),
    "version 2, additions": (block(body=V4 + b"\x01\0\2h2\x04\0\x03\0\0\0"), CLIENT, SERVER),
    "version 2, nonsense for additions": (block(body=V4 + b"\xff" * 500), CLIENT, SERVER),
    "version 2, as long as can be": (block(body=V4.ljust(LONGEST - 16, b"\0")), CLIENT, SERVER),
}

BAD = {
    "a request": b"GET / HTTP/1.0\r\n\r\n",
    "a handshake": b"\x16\x03\x01\x02\x00\x01",
    "one wrong byte": b"p",
    "only nearly the word": b"PROXYTCP4 ",
    "no such protocol": b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
    "lower case": b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
    "more than unknown": b"PROXY UNKNOWNS\r\n",
    "nothing after the word": b"PROXY \r\n",
    "no address": b"PROXY TCP4\r\n",
    "a port missing": b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    "more than two ports": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    "two spaces": b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
    "IPv6 for IPv4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "IPv4 for IPv6": b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    "a name for an address": b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n",
    "an address in octal": b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "no ASCII": b"PROXY TCP4 \xd9\xa1.0.2.1 192.0.2.2 1 2\r\n",
    "a port that is too high": b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
    "a port with a zero": b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    "a port with a sign": b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
    "a port of letters": b"PROXY TCP4 192.0.2.1 192.0.2.2 one 2\r\n",
    "a line that is too long": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "a line that does not end": b"PROXY TCP4 " + b"1" * 200,
    "only nearly the signature": SIGNATURE[:-1] + b"\r",
    "version 3": block(command=0x31),
    "no such command": block(command=0x22),
    "no such family": block(family=0x41),
    "no such protocol in a family": block(family=0x13),
    "addresses cut short": block(body=V4[:-1]),
    "no addresses": block(body=b""),
    "IPv6 addresses cut short": block(family=0x21, body=V4),
    "more than is taken": block(body=V4, length=LONGEST - 15),
    "all that its length can say": block(body=V4, length=65535),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_header_names_the_client_and_where_it_has_connected(name: str) -> None:
    content, source, destination = GOOD[name]
    header = ProxyHeader()
    assert header.feed(content + b"and what follows") == len(content)
    assert header.complete
    assert (header.source, header.destination) == (source, destination)


@pytest.mark.parametrize("name", GOOD)
def test_a_header_may_come_byte_by_byte(name: str) -> None:
    content, source, destination = GOOD[name]
    header = ProxyHeader()
    for at in range(len(content)):
        assert not header.complete
        assert header.feed(content[at : at + 1]) == 1
    assert header.complete
    assert (header.source, header.destination) == (source, destination)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused(name: str) -> None:
    header = ProxyHeader()
    with pytest.raises(ValueError, match=r"."):
        header.feed(BAD[name])
    assert not header.complete


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_byte_by_byte_too(name: str) -> None:
    header = ProxyHeader()
    with pytest.raises(ValueError, match=r"."):
        [header.feed(bytes([byte])) for byte in BAD[name]]


def test_the_lengths_at_the_limits_are_what_they_are_called() -> None:
    assert len(GOOD["version 1, as long as can be"][0]) == LONGEST_LINE
    assert len(GOOD["version 2, as long as can be"][0]) == LONGEST


# Connections.


class ProxiedConnection:
    """A connection to a `ProxyFactory`."""

    def __init__(self, clock: Clock, factory: ProxyFactory) -> None:
        self.clock = clock
        self.proxy = IPv4Address("TCP", "198.51.100.1", 4711)
        self.transport = StringTransport(peerAddress=self.proxy)
        self.protocol: Any = factory.buildProtocol(self.proxy)
        self.protocol.makeConnection(self.transport)

    @property
    def aborted(self) -> bool:
        return bool(self.transport.disconnected)


@implementer(IHalfCloseableProtocol)
class Inner(Protocol):
    """Records its calls."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.events.append(self.transport.getPeer())

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)

    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self.events.append("lost")


class InnerFactory(Factory):
    """Builds one protocol, and records the addresses that it is for."""

    noisy = False

    def __init__(self, inner: Protocol | None) -> None:
        self.inner = inner
        self.asked: list[IAddress | None] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        self.asked.append(addr)
        return self.inner


def connect(inner: Protocol | None = None, **options: Any) -> tuple[ProxiedConnection, InnerFactory]:
    clock, factory = Clock(), InnerFactory(inner)
    return ProxiedConnection(clock, ProxyFactory(clock, factory, **options)), factory


def test_what_is_behind_it_begins_when_the_header_ends() -> None:
    inner = Inner()
    connection, factory = connect(inner)
    connection.protocol.dataReceived(LINE[:-1])
    assert (inner.events, factory.asked) == ([], [])
    connection.protocol.dataReceived(LINE[-1:] + b"hola")
    connection.protocol.dataReceived(b"mundo")
    assert inner.events == [CLIENT, b"hola", b"mundo"]
    assert factory.asked == [CLIENT]
    assert connection.protocol.getHost() == SERVER


def test_a_proxy_that_speaks_for_itself_is_the_peer() -> None:
    inner = Inner()
    connection, factory = connect(inner)
    connection.protocol.dataReceived(b"PROXY UNKNOWN\r\n")
    assert inner.events == factory.asked == [connection.proxy]
    assert connection.protocol.getHost() == connection.transport.getHost()


def test_a_header_alone_reads_nothing() -> None:
    inner = Inner()
    connection, _ = connect(inner)
    connection.protocol.dataReceived(block())
    assert inner.events == [CLIENT]


def test_the_echo_behind_it_has_a_transport_like_any_other() -> None:
    clock = Clock()
    connection = ProxiedConnection(clock, ProxyFactory(clock, EchoFactory()))
    assert not ITCPTransport.providedBy(connection.protocol), "no more than the transport does"
    connection.protocol.dataReceived(LINE + b"hola")
    assert connection.transport.value() == b"hola"
    assert connection.transport.producer is connection.protocol


def test_all_ends_are_passed_on() -> None:
    inner = Inner()
    connection, _ = connect(inner)
    connection.protocol.dataReceived(LINE)
    connection.protocol.readConnectionLost()
    connection.protocol.writeConnectionLost()
    connection.protocol.connectionLost(Failure(ConnectionError()))
    assert inner.events == [CLIENT, "read lost", "write lost", "lost"]
    assert not connection.transport.disconnecting, "the wrapped protocol decides that"


def test_a_protocol_that_cannot_be_half_closed_is_closed() -> None:
    connection, _ = connect(Protocol())
    connection.protocol.dataReceived(LINE)
    connection.protocol.writeConnectionLost()
    assert not connection.transport.disconnecting
    connection.protocol.readConnectionLost()
    assert connection.transport.disconnecting


@pytest.mark.parametrize("sent", [b"", b"PROXY TC"])
def test_an_end_before_the_header_is_the_end_and_nobody_else_hears_of_it(sent: bytes) -> None:
    inner = Inner()
    connection, factory = connect(inner)
    if sent:
        connection.protocol.dataReceived(sent)
    connection.protocol.writeConnectionLost()
    connection.protocol.readConnectionLost()
    assert connection.transport.disconnecting
    connection.protocol.connectionLost(Failure(ConnectionError()))
    assert (inner.events, factory.asked) == ([], [])
    assert connection.clock.getDelayedCalls() == []


def test_a_connection_without_a_header_is_aborted_and_read_no_further() -> None:
    inner = Inner()
    connection, _ = connect(inner)
    connection.protocol.dataReceived(b"hola")
    assert connection.aborted
    connection.protocol.dataReceived(LINE)
    assert inner.events == []
    assert connection.clock.getDelayedCalls() == []


def test_a_connection_that_nobody_behind_wants_is_aborted() -> None:
    connection, factory = connect(None)
    connection.protocol.dataReceived(LINE + b"hola")
    assert factory.asked == [CLIENT]
    assert connection.aborted
    connection.protocol.connectionLost(Failure(ConnectionError()))


# Trust and timeouts.


def test_a_connection_from_elsewhere_gets_no_protocol() -> None:
    asked: list[IAddress | None] = []

    def trusted(address: IAddress | None) -> bool:
        asked.append(address)
        return address == CLIENT

    clock = Clock()
    factory = ProxyFactory(clock, EchoFactory(), trusted=trusted)
    assert factory.buildProtocol(SERVER) is None
    assert isinstance(factory.buildProtocol(CLIENT), Protocol)
    assert asked == [SERVER, CLIENT]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("options", [{}, {"timeout": 0.5}])
def test_a_header_that_does_not_come_in_time_is_not_waited_for(options: dict[str, float]) -> None:
    connection, _ = connect(Inner(), **options)
    timeout = options.get("timeout", PROXY_TIMEOUT)
    connection.clock.advance(timeout - 0.1)
    connection.protocol.dataReceived(b"PROXY ")
    assert connection.transport.disconnected is False
    connection.clock.advance(0.1)
    assert connection.aborted, "a byte now and then does not help"
    connection.protocol.connectionLost(Failure(ConnectionError()))
    assert connection.clock.getDelayedCalls() == []


@pytest.mark.parametrize("data", [LINE, LINE + b"hola", b"no header"])
def test_once_the_header_is_decided_on_no_time_is_counted(data: bytes) -> None:
    connection, _ = connect(Inner())
    connection.protocol.dataReceived(data)
    assert connection.clock.getDelayedCalls() == []


def test_a_connection_that_is_lost_leaves_nothing_behind() -> None:
    inner = Inner()
    clock, wrapped = Clock(), InnerFactory(inner)
    factory = ProxyFactory(clock, wrapped)
    for data in (b"", b"PROXY", LINE):
        connection = ProxiedConnection(clock, factory)
        connection.protocol.dataReceived(data)
        connection.protocol.connectionLost(Failure(ConnectionError()))
        assert connection.protocol.wrappedProtocol is None
    assert clock.getDelayedCalls() == []
    assert factory.protocols == {}
