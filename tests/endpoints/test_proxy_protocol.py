"""PROXY headers, and the connections that begin with one, in memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from suite.config.limits import PROXY_TIMEOUT, Limits
from suite.echo import Echo, EchoFactory
from suite.endpoints.proxy_protocol import LONGEST, LONGEST_LINE, SIGNATURE, ProxyFactory, ProxyHeader
from suite.guard.streams import QUIET, Guard
from suite.guard.sweep import SWEEP
from suite.reasons import Reason
from suite.system import Members

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


class Transport(StringTransport):
    """A transport that records being aborted."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


PROXY = IPv4Address("TCP", "127.0.0.1", 4711)


class ProxiedEndpoint:
    """An endpoint behind a PROXY header, with a guard, in memory.

    :ivar ends: why connections have ended.
    :ivar events: what the guard has logged.
    """

    def __init__(self, limits: Limits | None = None, protocol: type[Echo] = Echo, **options: Any) -> None:
        self.clock = Clock()
        self.guard = Guard(self.clock, "tcp", limits or Limits(), **options)
        wrapped = EchoFactory(self.guard)
        wrapped.protocol = protocol
        self.factory = ProxyFactory(self.clock, wrapped)
        self.ends = self.guard.ends
        self.events: list[Any] = []
        self.observe: Any = self.events.append

    def refused(self, address: IAddress = PROXY) -> bool:
        return self.factory.buildProtocol(address) is None

    def connect(self, data: bytes = b"", address: IAddress = PROXY, handle: Any = None) -> Any:
        """A connection that has received *data*; its ``transport`` is a `Transport`."""
        protocol = self.factory.buildProtocol(address)
        transport = Transport(peerAddress=address)
        transport.getHandle = lambda: handle  # type: ignore[attr-defined]  # of a UNIX socket, for its credentials
        protocol.makeConnection(transport)
        if data:
            protocol.dataReceived(data)
        return protocol

    def wait(self, seconds: float) -> None:
        """Let time pass, sweep by sweep."""
        self.clock.pump([SWEEP / 5] * round(seconds * 5 / SWEEP))


def lose(protocol: Any, reason: Exception | None = None) -> None:
    protocol.connectionLost(Failure(reason or ConnectionDone()))


@pytest.fixture
def endpoint() -> Iterator[ProxiedEndpoint]:
    """An endpoint; at the end, when all its connections are lost, nothing may be left of them."""
    yield from watched(ProxiedEndpoint())


def watched(endpoint: ProxiedEndpoint) -> Iterator[ProxiedEndpoint]:
    globalLogPublisher.addObserver(endpoint.observe)
    yield endpoint
    for protocol in [*endpoint.factory.protocols]:
        lose(protocol)
    globalLogPublisher.removeObserver(endpoint.observe)
    assert endpoint.guard.open == {}
    assert endpoint.clock.getDelayedCalls() == []


@implementer(IHalfCloseableProtocol)
class Inner(Echo):
    """Records its calls."""

    def __init__(self, guard: Guard | None = None) -> None:
        super().__init__(guard)
        self.events: list[object] = []

    def connectionMade(self) -> None:
        super().connectionMade()
        assert self.transport is not None
        self.events.append(self.transport.getPeer())

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)

    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        super().connectionLost(reason)
        self.events.append("lost")


def test_what_is_behind_it_begins_when_the_header_ends() -> None:
    connection = ProxiedEndpoint(protocol=Inner).connect(LINE[:-1])
    inner = connection.wrappedProtocol
    assert inner.events == []
    connection.dataReceived(LINE[-1:] + b"hola")
    connection.dataReceived(b"mundo")
    assert inner.events == [CLIENT, b"hola", b"mundo"]
    assert connection.getHost() == SERVER


def test_a_proxy_that_speaks_for_itself_is_the_peer() -> None:
    connection = ProxiedEndpoint(protocol=Inner).connect(b"PROXY UNKNOWN\r\n")
    assert connection.wrappedProtocol.events == [PROXY]
    assert connection.getHost() == connection.transport.getHost()


def test_a_header_alone_reads_nothing() -> None:
    assert ProxiedEndpoint(protocol=Inner).connect(block()).wrappedProtocol.events == [CLIENT]


@pytest.mark.parametrize("guarded", [True, False])
def test_the_echo_behind_it_has_a_transport_like_any_other(guarded: bool) -> None:
    endpoint = ProxiedEndpoint()
    if not guarded:
        endpoint.factory = ProxyFactory(endpoint.clock, EchoFactory())
    connection = endpoint.connect()
    assert not ITCPTransport.providedBy(connection), "no more than the transport does"
    connection.dataReceived(LINE + b"hola")
    assert connection.transport.value() == b"hola"
    assert connection.transport.producer is connection


def test_without_a_guard_what_is_no_header_is_aborted_as_well() -> None:
    endpoint = ProxiedEndpoint()
    endpoint.factory = ProxyFactory(endpoint.clock, EchoFactory())
    assert endpoint.connect(b"hola").transport.aborted


def test_all_ends_are_passed_on() -> None:
    connection = ProxiedEndpoint(protocol=Inner).connect(LINE)
    inner = connection.wrappedProtocol
    connection.readConnectionLost()
    connection.writeConnectionLost()
    lose(connection)
    assert inner.events == [CLIENT, "read lost", "write lost", "lost"]
    assert not connection.transport.disconnecting, "the wrapped protocol decides that"


# The guard owns the connection from accept.


def test_connections_count_before_their_header() -> None:
    endpoint = ProxiedEndpoint(Limits(connections=2))
    waiting = endpoint.connect()
    served = endpoint.connect(LINE + b"hola")
    assert endpoint.refused()
    waiting.dataReceived(LINE + b"hola")
    assert (waiting.transport.value(), served.transport.value()) == (b"hola", b"hola"), "two of two"
    lose(waiting)
    assert not endpoint.refused()
    assert endpoint.ends == {Reason.CONNECTIONS: 1, Reason.CLOSED: 1}


def test_a_header_that_does_not_come_in_time_is_not_waited_for(endpoint: ProxiedEndpoint) -> None:
    slow, quick = endpoint.connect(), endpoint.connect(LINE)
    endpoint.wait(PROXY_TIMEOUT - 0.5)
    slow.dataReceived(b"PROXY ")
    assert not slow.transport.aborted
    endpoint.wait(0.5 + 2 * SWEEP)
    assert slow.transport.aborted, "a byte now and then does not help"
    slow.dataReceived(LINE[6:] + b"hola")
    assert slow.transport.value() == b""
    lose(slow)
    endpoint.wait(PROXY_TIMEOUT)
    assert not quick.transport.aborted
    assert endpoint.ends == {Reason.PROXY: 1}
    assert endpoint.events[-1]["detail"] == "no PROXY header within 5 seconds"


def test_draining_and_aborting_include_those_without_a_header(endpoint: ProxiedEndpoint) -> None:
    silent = endpoint.connect()
    done: list[bool] = []
    endpoint.guard.drain(10, lambda: done.append(True))
    assert not done
    endpoint.wait(QUIET + SWEEP)
    assert silent.transport.disconnecting
    assert not done
    lose(silent)
    assert done
    other = endpoint.connect()
    endpoint.guard.abort()
    assert other.transport.aborted
    lose(other)
    assert endpoint.ends == {Reason.DRAIN: 2}


def test_a_header_that_comes_while_draining_is_served(endpoint: ProxiedEndpoint) -> None:
    connection = endpoint.connect()
    endpoint.guard.drain(10, lambda: None)
    endpoint.wait(QUIET / 2)
    connection.dataReceived(LINE + b"hola")
    endpoint.wait(QUIET / 2)
    assert (connection.transport.value(), connection.transport.disconnecting) == (b"hola", False)


@pytest.mark.parametrize(
    "header", [LINE, b"PROXY UNKNOWN\r\n", block(command=0x20), block(family=0x31, body=UNIX)]
)
@pytest.mark.parametrize("welcome", [True, False])
def test_the_user_of_a_unix_socket_is_checked_whatever_the_header_says(header: bytes, welcome: bool) -> None:
    user = os.getuid() if welcome else 4711
    endpoint = ProxiedEndpoint(Limits(users=(str(user),)))
    endpoint.guard.members = Members(frozenset({user}))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = endpoint.connect(address=UNIXAddress(None), handle=ours)
        assert connection.transport.aborted is not welcome, "at accept"
        connection.dataReceived(header + b"hola")
    assert connection.transport.value() == (b"hola" if welcome else b"")
    lose(connection)
    assert endpoint.ends == {Reason.CLOSED if welcome else Reason.DENIED: 1}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(deny=(ip_network("192.0.2.0/24"),)), Reason.DENIED),
        (Limits(allow=(ip_network("127.0.0.0/8"),)), Reason.DENIED),
        (Limits(per_peer=1), Reason.PER_PEER),
    ],
)
def test_a_client_is_judged_when_the_header_names_it_and_gets_nothing_back(
    limits: Limits, reason: Reason
) -> None:
    endpoint = ProxiedEndpoint(limits, Inner)
    if reason is Reason.PER_PEER:
        endpoint.connect(LINE)
    connection = endpoint.connect(LINE + b"hola")
    inner = connection.wrappedProtocol
    connection.dataReceived(b"mundo")
    connection.readConnectionLost()
    lose(connection)
    assert (connection.transport.aborted, connection.transport.value()) == (True, b"")
    assert inner.events == [], "who has not been served hears nothing"
    assert endpoint.ends == {reason: 1}


def test_a_proxy_itself_is_not_limited_to_per_peer() -> None:
    endpoint = ProxiedEndpoint(Limits(per_peer=1))
    connections = [endpoint.connect(LINE.replace(b"2.1 ", b"2.%d " % number)) for number in (1, 2, 3)]
    assert not any(connection.transport.aborted for connection in connections)


def test_headers_are_believed_only_from_proxy_from() -> None:
    endpoint = ProxiedEndpoint()
    assert endpoint.refused(SERVER)
    assert not endpoint.refused(PROXY)
    assert endpoint.ends == {Reason.PROXY: 1}


# Ends before the header.


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("header", [b"", LINE])
def test_a_health_check_that_leaves_without_a_byte_is_debug(
    endpoint: ProxiedEndpoint, header: bytes, reset: bool
) -> None:
    connection = endpoint.connect(header)
    if not reset:
        connection.readConnectionLost()
        assert connection.transport.disconnecting
    lose(connection, ConnectionLost() if reset else None)
    assert endpoint.ends == {Reason.RESET if reset else Reason.CLOSED: 1}
    assert endpoint.events[-1]["log_level"].name == "debug"


@pytest.mark.parametrize(("data", "ends"), [(b"hola", False), (b"PROXY TC", True)])
def test_a_connection_without_a_whole_header_is_aborted_and_read_no_further(
    endpoint: ProxiedEndpoint, data: bytes, ends: bool
) -> None:
    connection = endpoint.connect(data)
    connection.writeConnectionLost()
    if ends:
        connection.readConnectionLost()
    assert connection.transport.aborted
    connection.dataReceived(LINE + b"hola")
    lose(connection)
    assert connection.transport.value() == b""
    assert endpoint.ends == {Reason.PROXY: 1}
    assert endpoint.events[-1]["log_level"].name == "info"


def test_a_connection_that_is_lost_leaves_nothing_behind(endpoint: ProxiedEndpoint) -> None:
    for data in (b"", b"PROXY", LINE):
        connection = endpoint.connect(data)
        lose(connection, ConnectionLost())
        assert connection.wrappedProtocol is None
    assert endpoint.factory.protocols == {}
    assert endpoint.guard._by_source == {}
