"""`suite.guard.streams` in memory: refusals, time limits and ends."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from suite.config.limits import Limits
from suite.echo import Echo, EchoFactory, MeasuredEcho
from suite.engine.handshake import InvalidPreambleError
from suite.guard.keepalive import keep_alive
from suite.guard.streams import QUIET, Guard
from suite.guard.sweep import SWEEP, Phase
from suite.reasons import Reason
from suite.system import credentials, group_ids, user_ids
from tests.running import client_program

PEER = IPv4Address("TCP", "192.0.2.1", 40000)
LOOPBACK = IPv4Address("TCP", "127.0.0.1", 40000)


class Transport(StringTransport):
    """A transport that records how it was closed, and whose peer may be slow.

    :ivar owed: the number of unsent bytes to report.
    :ivar ends: the calls that closed it: ``lose``, ``abort`` and ``half``.
    :ivar protocol: its protocol.
    """

    protocol: Any

    def __init__(self, address: Any = PEER) -> None:
        super().__init__(peerAddress=address)
        self.owed = 0
        self.preamble_complete = True
        self.handshake_complete = False
        self.ends: list[str] = []

    def read_header(self, client: Any) -> bool:
        """The PROXY header is complete and names *client*; return whether that is admitted."""
        self.preamble_complete = True
        self.peerAddr = client
        return bool(self.protocol.preamble_completed())

    def loseConnection(self) -> None:
        self.ends.append("lose")

    def abortConnection(self) -> None:
        if "abort" not in self.ends:  # repeated calls have no effect, as in Twisted
            self.ends.append("abort")

    def loseWriteConnection(self) -> None:
        self.ends.append("half")

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Called for TCP connections only."""


class GuardedEndpoint:
    """An endpoint with a guard, in memory.

    :ivar events: the log events of the guard.
    """

    def __init__(self, limits: Limits | None = None, **options: bool) -> None:
        self.clock = Clock()
        self.guard = Guard(self.clock, "tcp", limits or Limits(), **options)
        self.factory = EchoFactory(self.guard)
        self.events: list[dict[str, Any]] = []
        self.observe: Any = self.events.append

    def connect(self, address: Any = PEER, *, header: bool = False) -> tuple[Any, Any]:
        """A connection from *address*, and its `Transport`, which a *header* may have to begin."""
        protocol = self.factory.buildProtocol(address)
        assert protocol is not None, "refused"
        transport = Transport(address)
        transport.preamble_complete = not header
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol, transport

    def refused(self, address: Any = PEER) -> bool:
        return self.factory.buildProtocol(address) is None

    def wait(self, seconds: float) -> None:
        """Let time pass, sweep by sweep."""
        while seconds > 0:
            self.clock.advance(min(seconds, SWEEP / 5))
            seconds -= SWEEP / 5


def disconnect(protocol: Any, reason: Exception | None = None) -> None:
    protocol.connectionLost(Failure(reason or ConnectionDone()))


@pytest.fixture
def make_endpoint() -> Iterator[type[GuardedEndpoint]]:
    """The class, observed; at the end, an endpoint without connections must have nothing scheduled."""
    built: list[GuardedEndpoint] = []

    class Built(GuardedEndpoint):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            globalLogPublisher.addObserver(self.observe)
            built.append(self)

    yield Built
    for one in built:
        globalLogPublisher.removeObserver(one.observe)
        for protocol in [*one.guard.open]:
            disconnect(protocol)
        assert one.clock.getDelayedCalls() == []


# Refusals.


def test_an_endpoint_that_is_full_refuses(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(connections=2))
    first, _ = endpoint.connect()
    endpoint.connect()
    assert endpoint.refused()
    disconnect(first)
    endpoint.connect()
    assert endpoint.refused()
    assert endpoint.guard.ends == {Reason.CONNECTIONS: 2, Reason.CLOSED: 1}
    assert endpoint.guard.accepted_count == 3


def test_a_peer_that_has_its_share_is_refused_and_others_are_not(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint(Limits(per_peer=1))
    first, _ = endpoint.connect()
    assert endpoint.refused(IPv4Address("TCP", "192.0.2.1", 50000))
    endpoint.connect(IPv4Address("TCP", "192.0.2.2", 50000))
    disconnect(first)
    endpoint.connect(IPv4Address("TCP", "192.0.2.1", 50000))
    assert endpoint.guard.ends[Reason.PER_PEER] == 1


def test_an_address_mapped_into_ipv6_is_the_same_peer(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(per_peer=1))
    endpoint.connect(IPv6Address("TCP", "::ffff:192.0.2.1", 40000))
    assert endpoint.refused(IPv4Address("TCP", "192.0.2.1", 40000))


def test_an_ipv6_network_of_64_bits_is_one_peer(make_endpoint: type[GuardedEndpoint]) -> None:
    """As it is for UDP: a host can use every address of its network."""
    endpoint = make_endpoint(Limits(per_peer=2))
    first, _ = endpoint.connect(IPv6Address("TCP", "2001:db8::1", 40000))
    endpoint.connect(IPv6Address("TCP", "2001:db8::ffff:2", 40000))
    assert endpoint.refused(IPv6Address("TCP", "2001:db8::3", 40000))
    endpoint.connect(IPv6Address("TCP", "2001:db8:0:1::3", 40000))
    disconnect(first)
    endpoint.connect(IPv6Address("TCP", "2001:db8::3", 40000))
    assert endpoint.guard.ends[Reason.PER_PEER] == 1


@pytest.mark.parametrize(
    ("allow", "deny", "host", "admitted"),
    [
        ([], [], "192.0.2.1", True),
        (["192.0.2.0/24"], [], "192.0.2.1", True),
        (["192.0.2.0/24"], [], "198.51.100.1", False),
        (["192.0.2.0/24"], [], "::ffff:192.0.2.1", True),
        (["192.0.2.0/24"], [], "2001:db8::1", False),
        ([], ["192.0.2.0/24"], "::ffff:192.0.2.1", False),
        (["192.0.2.0/24"], ["192.0.2.1/32"], "192.0.2.1", False),
        (["fe80::/10"], [], "fe80::1%lo", True),
    ],
)
def test_networks(
    make_endpoint: type[GuardedEndpoint], allow: list[str], deny: list[str], host: str, admitted: bool
) -> None:
    limits = Limits(allow=tuple(map(ip_network, allow)), deny=tuple(map(ip_network, deny)))
    endpoint = make_endpoint(limits)
    kind: Any = IPv6Address if ":" in host else IPv4Address
    assert endpoint.refused(kind("TCP", host, 40000)) is not admitted
    assert endpoint.guard.ends[Reason.DENIED] == (not admitted)


def test_a_refusal_is_logged_with_who_and_why(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(deny=(ip_network("192.0.2.0/24"),)))
    assert endpoint.refused()
    (event,) = [e for e in endpoint.events if e["log_namespace"] == "suite.guard.admission"]
    assert event["log_level"].name == "info"
    assert (event["endpoint"], event["peer"], event["reason"]) == ("tcp", "192.0.2.1:40000", "denied")


def test_connections_without_a_descriptor_are_all_counted_and_logged_once_a_second(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint()
    for _ in range(30):
        for _ in range(10):
            endpoint.factory.out_of_descriptors(PEER)
        endpoint.clock.advance(0.1)
    assert endpoint.guard.ends == {Reason.DESCRIPTORS: 300}
    lines = [event for event in endpoint.events if event.get("reason") == "descriptors"]
    assert len(lines) == 3
    assert lines[0]["refused"] == 1


# Time limits.


@pytest.mark.parametrize(
    ("limits", "reason", "end"),
    [(Limits(idle=5.0), Reason.IDLE, "lose"), (Limits(lifetime=5.0), Reason.LIFETIME, "lose")],
)
def test_quiet_connections_end_in_time(
    make_endpoint: type[GuardedEndpoint], limits: Limits, reason: Reason, end: str
) -> None:
    endpoint = make_endpoint(limits)
    protocol, transport = endpoint.connect()
    endpoint.wait(4.9)
    assert transport.ends == []
    endpoint.wait(SWEEP + 0.2)
    assert transport.ends == [end]
    disconnect(protocol)
    assert endpoint.guard.ends == {reason: 1}


def test_who_sends_is_not_idle_but_has_a_lifetime(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=2.0, lifetime=10.0))
    protocol, transport = endpoint.connect()
    for _ in range(9):
        endpoint.wait(1)
        protocol.dataReceived(b"hola")
    assert transport.ends == []
    endpoint.wait(2)
    assert transport.ends == ["lose"]


def test_a_peer_that_takes_nothing_of_what_it_is_owed_is_cut_off(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint(Limits(idle=60.0, stall=5.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    transport.owed = 1000
    endpoint.wait(3)
    transport.owed = 900  # slow, but not stuck
    endpoint.wait(4)
    assert transport.ends == []
    endpoint.wait(2)
    assert transport.ends == ["abort"]
    disconnect(protocol, ConnectionLost())
    assert endpoint.guard.ends == {Reason.STALL: 1}


def test_a_peer_that_catches_up_is_idle_from_then_on(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=5.0, stall=2.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    transport.owed = 1000
    endpoint.wait(1)
    transport.owed = 0
    endpoint.wait(4.5)
    assert transport.ends == []
    endpoint.wait(1.2)
    assert transport.ends == ["lose"]


def test_a_handshake_has_its_time_and_no_more(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(handshake=3.0, idle=60.0), handshakes=True)
    quick, quick_transport = endpoint.connect()
    slow, slow_transport = endpoint.connect()
    endpoint.wait(1)
    quick.handshakeCompleted()
    endpoint.wait(2.6)
    assert (quick_transport.ends, slow_transport.ends) == ([], ["abort"])
    disconnect(slow, ConnectionLost())
    assert endpoint.guard.ends == {Reason.HANDSHAKE: 1}


def test_a_half_closed_connection_has_its_time(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(half_close=3.0, stall=60.0, idle=60.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    transport.owed = 10
    protocol.readConnectionLost()
    assert transport.ends == ["lose"]
    endpoint.wait(2.9)
    assert transport.ends == ["lose"]
    endpoint.wait(SWEEP + 0.2)
    assert transport.ends == ["lose", "abort"]
    disconnect(protocol, ConnectionLost())
    assert endpoint.guard.ends == {Reason.HALF_CLOSE: 1}


def test_an_end_has_its_first_reason(make_endpoint: type[GuardedEndpoint]) -> None:
    """A peer that is idle and does not answer our end was ended for being idle."""
    endpoint = make_endpoint(Limits(idle=2.0, half_close=3.0))
    protocol, transport = endpoint.connect()
    endpoint.wait(2 + 2 * SWEEP)
    assert transport.ends == ["lose"]
    endpoint.wait(3 + 2 * SWEEP)
    assert transport.ends == ["lose", "abort"]
    disconnect(protocol, ConnectionAborted())
    assert endpoint.guard.ends == {Reason.IDLE: 1}


def test_only_those_that_have_received_or_owe_are_asked_what_they_owe(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    """The question may cost a system call."""
    endpoint = make_endpoint()
    asked: list[str] = []

    class Asked(Transport):
        name = ""

        @property
        def owed(self) -> int:
            asked.append(self.name)
            return 0

        @owed.setter
        def owed(self, _owed: int) -> None:
            pass

    for name in ("quiet", "busy"):
        protocol = endpoint.factory.buildProtocol(PEER)
        transport = Asked()
        transport.name = name
        assert protocol is not None
        protocol.makeConnection(transport)
    assert isinstance(protocol, Echo)
    protocol.dataReceived(b"hola")
    endpoint.wait(2)
    endpoint.guard.drain(10, lambda: None)
    endpoint.wait(2)
    assert asked == ["busy"]


# Pauses.


@pytest.mark.parametrize("gap", [2.0, 3600.0])
@pytest.mark.parametrize(
    ("limits", "start", "end"),
    [
        (Limits(idle=5.0), "", "lose"),
        (Limits(stall=5.0), "owe", "abort"),
        (Limits(half_close=5.0, stall=None), "half", "abort"),
        (Limits(handshake=5.0), "handshake", "abort"),
        (Limits(), "header", "abort"),
    ],
)
def test_a_pause_of_the_process_is_not_a_silence_of_the_peer(
    make_endpoint: type[GuardedEndpoint], limits: Limits, start: str, end: str, gap: float
) -> None:
    """SIGSTOP, a suspended machine, a CPU that others had: nothing could be seen meanwhile."""
    endpoint = make_endpoint(limits, handshakes=start == "handshake", proxied=start == "header")
    protocol, transport = endpoint.connect(LOOPBACK, header=start == "header")
    if start in ("owe", "half"):
        protocol.dataReceived(b"hola")
        transport.owed = 10
    if start == "half":
        protocol.readConnectionLost()
    before = [*transport.ends]
    endpoint.wait(4)
    endpoint.clock.advance(gap)
    endpoint.wait(0.5)
    assert transport.ends == before
    endpoint.wait(0.5 + 2 * SWEEP)
    assert transport.ends == [*before, end]


def test_a_pause_gives_nothing_to_those_that_came_after_it(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=5.0))
    endpoint.connect()
    endpoint.wait(1)
    # What has happened since the process went on comes before the sweep, which is late.
    endpoint.clock.callLater(SWEEP / 100, lambda: later.append(endpoint.connect()[1]))
    later: list[Transport] = []
    endpoint.clock.advance(3600)
    endpoint.wait(5 + 2 * SWEEP)
    assert later[0].ends == ["lose"]


def test_a_lifetime_goes_on_in_a_pause(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(lifetime=60.0))
    _, transport = endpoint.connect()
    endpoint.clock.advance(3600)
    assert transport.ends == ["lose"]


def test_no_limit_is_no_limit(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=None, stall=None, half_close=None, handshake=None), handshakes=True)
    _, transport = endpoint.connect()
    endpoint.wait(100)
    assert transport.ends == []


def test_limits_may_change_under_a_connection(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=600.0))
    _, transport = endpoint.connect()
    endpoint.wait(3)
    endpoint.guard.limits = Limits(idle=2.0)
    endpoint.wait(SWEEP + 0.1)
    assert transport.ends == ["lose"]


def test_after_so_many_bytes_the_echo_ends_and_what_follows_is_for_nobody(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint(Limits(bytes=10))
    protocol, transport = endpoint.connect()
    assert isinstance(protocol, MeasuredEcho)
    protocol.dataReceived(b"0123456")
    assert transport.ends == []
    protocol.dataReceived(b"789abc")
    protocol.dataReceived(b"more")
    assert transport.value() == b"0123456789"
    assert transport.ends == ["half"]
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.BYTES: 1}
    assert endpoint.guard.received == 10


# Ends.


@pytest.mark.parametrize(
    ("error", "established", "reason", "level"),
    [
        (ConnectionDone(), True, Reason.CLOSED, "debug"),
        (ConnectionLost(), True, Reason.RESET, "debug"),
        (SSL.Error([("SSL routines", "", "bad record mac")]), True, Reason.TLS, "info"),
        (ZeroDivisionError("a callback's"), False, Reason.TLS, "info"),
        (InvalidPreambleError("no PROXY header"), False, Reason.PROXY, "info"),
        (ZeroDivisionError("ours"), True, Reason.ERROR, "error"),
    ],
)
def test_an_end_has_a_reason(
    make_endpoint: type[GuardedEndpoint], error: Exception, established: bool, reason: Reason, level: str
) -> None:
    endpoint = make_endpoint(handshakes=True)
    protocol, _ = endpoint.connect()
    if established:
        protocol.handshakeCompleted()
        protocol.dataReceived(b"hola")
    endpoint.clock.advance(0.25)
    disconnect(protocol, error)
    event = endpoint.events[-1]
    assert (event["reason"], event["log_level"].name) == (reason.value, level)
    assert (event["endpoint"], event["connection"], event["peer"]) == ("tcp", 1, "192.0.2.1:40000")
    assert (event["received"], event["duration"]) == (4 * established, 0.25)


def test_a_connection_over_tls_that_ends_without_close_notify_is_truncated(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint(handshakes=True)
    protocol, transport = endpoint.connect()
    protocol.handshakeCompleted()
    transport.close_notify_received = False  # as the engine's transports have it
    protocol.dataReceived(b"hola")
    protocol.readConnectionLost()
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.TRUNCATED: 1}


def test_who_ends_tls_like_that_without_a_byte_has_not_been_cut_off(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint(handshakes=True)
    protocol, transport = endpoint.connect()
    protocol.handshakeCompleted()
    transport.close_notify_received = False
    protocol.readConnectionLost()
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.CLOSED: 1}


def test_no_end_is_logged_with_the_name_of_a_class(make_endpoint: type[GuardedEndpoint]) -> None:
    errors = [
        SSL.Error(),
        SSL.ZeroReturnError(),
        SSL.SysCallError(-1, "Unexpected EOF"),
        ConnectionLost(),
        ConnectionAborted(),
        InvalidPreambleError("no PROXY header"),
        ZeroDivisionError(),
        ZeroDivisionError("a callback's"),
    ]
    for established in (False, True):
        for error in errors:
            endpoint = make_endpoint(handshakes=True)
            protocol, _ = endpoint.connect()
            if established:
                protocol.handshakeCompleted()
            disconnect(protocol, error)
            line = formatEvent(endpoint.events[-1]) + str(endpoint.events[-1]["detail"])
            assert not [each for each in errors if type(each).__name__ in line], line


def test_draining_closes_the_quiet_and_waits_for_the_others(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint()
    (quiet, quiet_transport), (busy, busy_transport), (owed, owed_transport) = (
        endpoint.connect() for _ in range(3)
    )
    endpoint.wait(5)
    owed.dataReceived(b"hola")
    owed_transport.owed = 1
    done: list[bool] = []
    endpoint.guard.drain(10, lambda: done.append(True))
    for _ in range(4):
        busy.dataReceived(b"hola")
        endpoint.wait(QUIET / 2)
    assert (quiet_transport.ends, busy_transport.ends, owed_transport.ends) == (["lose"], [], [])
    endpoint.wait(QUIET)
    assert (busy_transport.ends, owed_transport.ends) == (["lose"], [])
    endpoint.wait(7.2)
    assert owed_transport.ends[0] == "abort"
    for protocol in (quiet, busy, owed):
        assert not done
        disconnect(protocol)
    assert done == [True]
    assert endpoint.guard.ends == {Reason.DRAIN: 3}


def test_there_is_nothing_to_wait_for_where_nobody_is(make_endpoint: type[GuardedEndpoint]) -> None:
    done: list[bool] = []
    make_endpoint().guard.drain(10, lambda: done.append(True))
    assert done == [True]


def test_all_may_be_ended_at_once(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint()
    transports = [endpoint.connect()[1] for _ in range(3)]
    endpoint.guard.abort()
    assert [transport.ends for transport in transports] == [["abort"]] * 3


def test_an_empty_house_needs_no_sweeping(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint()
    protocol, _ = endpoint.connect()
    assert endpoint.clock.getDelayedCalls() != []
    disconnect(protocol)
    assert endpoint.clock.getDelayedCalls() == []
    endpoint.connect()
    assert endpoint.clock.getDelayedCalls() != []


# PROXY headers before a handshake.


def test_as_many_are_admitted_behind_a_header_as_the_limit_says(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(connections=2), handshakes=True, proxied=True)
    admitted = [endpoint.connect(LOOPBACK, header=True) for _ in range(2)]
    assert endpoint.refused(LOOPBACK)
    for protocol, transport in admitted:
        transport.read_header(PEER)
        assert protocol.phase is Phase.HANDSHAKE
        protocol.handshakeCompleted()
        protocol.dataReceived(b"hola")
        assert (transport.ends, transport.value()) == ([], b"hola")
    assert endpoint.guard.ends == {Reason.CONNECTIONS: 1}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(deny=(ip_network("192.0.2.0/24"),)), Reason.DENIED), (Limits(per_peer=1), Reason.PER_PEER)],
)
def test_a_client_named_by_a_header_is_judged_before_the_handshake(
    make_endpoint: type[GuardedEndpoint], limits: Limits, reason: Reason
) -> None:
    endpoint = make_endpoint(limits, handshakes=True, proxied=True)
    if reason is Reason.PER_PEER:
        endpoint.connect(LOOPBACK, header=True)[1].read_header(PEER)
    protocol, transport = endpoint.connect(LOOPBACK, header=True)
    assert not transport.read_header(PEER)
    assert (transport.ends, protocol.phase) == (["abort"], Phase.HEADER)
    disconnect(protocol, ConnectionAborted())
    assert endpoint.guard.ends == {reason: 1}
    assert endpoint.events[-1]["log_format"] == "refused"
    assert endpoint.events[-1]["peer"] == "192.0.2.1:40000"


def test_a_handshake_behind_a_header_counts_from_accept(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(handshake=6.0), handshakes=True, proxied=True)
    _, transport = endpoint.connect(LOOPBACK, header=True)
    endpoint.wait(4)
    transport.read_header(PEER)
    endpoint.wait(1.5)
    assert transport.ends == []
    endpoint.wait(1)
    assert transport.ends == ["abort"]


def test_whether_a_header_comes_is_said_by_the_connection(make_endpoint: type[GuardedEndpoint]) -> None:
    """A reload may switch an open port from the one to the other."""
    endpoint = make_endpoint(proxied=True)
    before, _ = endpoint.connect(LOOPBACK, header=True)
    endpoint.factory.proxied = False
    after, _ = endpoint.connect(LOOPBACK)
    assert (before.phase, after.phase) == (Phase.HEADER, Phase.ANSWERING)


# Keep-alive.


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(keepalive=60.0, stall=60.0), (1, 60, 12, 5, 120_000)),
        (Limits(keepalive=10.0, stall=60.0), (1, 10, 2, 5, 0)),
        (Limits(keepalive=10.0, stall=None), (1, 10, 2, 5, 0)),
        (Limits(keepalive=1.5, stall=2.0), (1, 2, 1, 5, 3000)),
    ],
)
def test_a_keep_alive_is_as_the_limits_say(limits: Limits, expected: tuple[int, ...]) -> None:
    """A limit for bytes on the way below `stall` would also end a peer that is there and reads nothing."""
    with socket.socket() as sock:
        transport = Transport()
        transport.socket = sock  # type: ignore[attr-defined]  # as Twisted's and the engine's transports have it
        keep_alive(transport, limits)
        assert keep_alive_of(sock) == expected
        keep_alive(transport, Limits(keepalive=None))
        assert keep_alive_of(sock)[0] == 0


def keep_alive_of(sock: socket.socket) -> tuple[int, ...]:
    """SO_KEEPALIVE, the idle time, the interval, the number of probes, and the user timeout."""
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        ),
    )


def test_a_new_keep_alive_is_for_open_connections_too(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint()
    with socket.socket() as sock:
        _, transport = endpoint.connect()
        transport.socket = sock
        endpoint.guard.limits = Limits(keepalive=7.0)
        assert keep_alive_of(sock)[:2] == (1, 7)


# UNIX sockets.


def test_the_peer_of_a_unix_socket_is_known() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        uid, groups = credentials(ours)
    assert uid == os.getuid()
    assert {os.getgid(), *os.getgroups()} == groups


@pytest.mark.parametrize(
    ("limits", "welcome"),
    [
        (Limits(), True),
        (Limits(users=(str(os.getuid()),)), True),
        (Limits(users=(pwd.getpwuid(os.getuid()).pw_name,)), True),
        (Limits(users=("4711",)), False),
        (Limits(groups=(str(os.getgid()),)), True),
        (Limits(groups=("4711",)), False),
        (Limits(users=("4711",), groups=(str(os.getgid()),)), True),
        (Limits(users=("no such user, not any more",)), False),
    ],
)
def test_users_and_groups(make_endpoint: type[GuardedEndpoint], limits: Limits, welcome: bool) -> None:
    endpoint = make_endpoint(limits)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol = endpoint.factory.buildProtocol(UNIXAddress(None))
        assert isinstance(protocol, Echo)
        transport = Transport(UNIXAddress(None))
        transport.getHandle = lambda: ours  # type: ignore[attr-defined]
        protocol.makeConnection(transport)
        assert transport.ends == ([] if welcome else ["abort"])
        disconnect(protocol, None if welcome else ConnectionLost())
        assert endpoint.guard.ends[Reason.DENIED] == (not welcome)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user for once")
def test_another_user_is_another() -> None:
    """The kernel reports the credentials of the process that has connected."""
    name = f"echo-suite-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        command = [client_program("socat"), "-u", f"ABSTRACT-CONNECT:{name}", "-"]
        with subprocess.Popen(command, user=4711, group=4712, extra_groups=[4713]) as peer:
            sock, _ = listener.accept()
            with sock:
                assert credentials(sock) == (4711, {4712, 4713})
            peer.wait(60)


def test_ids_of_names() -> None:
    root = pwd.getpwuid(0).pw_name
    assert list(user_ids([root, "4711"])) == [0, 4711]
    assert list(group_ids(["4711"])) == [4711]
    with pytest.raises(KeyError):
        list(user_ids(["nobody of this name"]))
