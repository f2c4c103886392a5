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
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from suite.config.limits import Limits
from suite.echo import Echo, EchoFactory, MeasuredEcho
from suite.engine.tls import InvalidPreambleError
from suite.guard.streams import QUIET, SWEEP, Guard, Guarded, canonical
from suite.reasons import Reason
from suite.system import credentials, group_ids, user_ids
from tests.running import client_program

PEER = IPv4Address("TCP", "192.0.2.1", 40000)


class Transport(StringTransport):
    """A transport that records how it was closed, and whose peer may be slow.

    :ivar owed: the number of bytes to report that the peer has not taken.
    :ivar unsent: the number of those to report that the kernel has not accepted; None: it does not tell.
    :ivar ends: the calls that closed it: ``lose``, ``abort`` and ``half``.
    """

    def __init__(self, address: Any = PEER) -> None:
        super().__init__(peerAddress=address)
        self.owed = 0
        self.unsent: int | None = None
        self.ends: list[str] = []

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

    def connect(self, address: Any = PEER) -> tuple[Any, Transport]:
        """A connection from *address*, and its transport."""
        protocol = self.factory.buildProtocol(address)
        assert protocol is not None, "refused"
        transport = Transport(address)
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
    assert canonical("::ffff:192.0.2.1") == "192.0.2.1"
    assert canonical("fe80::1%lo") == "fe80::1%lo"


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
    (event,) = [e for e in endpoint.events if e["log_namespace"] == "suite.guard.streams"]
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


def test_while_bytes_arrive_the_kernel_is_not_asked_what_it_holds(
    make_endpoint: type[GuardedEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a busy connection costs: its peer makes progress anyway."""
    asked: list[float] = []
    endpoint = make_endpoint(Limits(stall=1))
    protocol, _ = endpoint.connect()

    def owed(_: Guarded) -> int:
        asked.append(endpoint.clock.seconds())
        return 0

    monkeypatch.setattr(Guarded, "owed", property(owed))
    for _ in range(20):
        protocol.dataReceived(b"hola")
        endpoint.wait(SWEEP / 2)
    assert asked == []
    endpoint.wait(3 * SWEEP)
    assert len(asked) == 1, "and once more, to find that nothing is owed"


def test_at_the_end_of_a_drain_what_the_kernel_holds_is_not_thrown_away(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    """Closing lets the kernel deliver it; aborting would not."""
    endpoint = make_endpoint()
    (held, held_transport), (unsent, unsent_transport) = (endpoint.connect() for _ in range(2))
    for protocol, transport, bytes_unsent in ((held, held_transport, 0), (unsent, unsent_transport, 1)):
        protocol.dataReceived(b"hola")
        transport.owed, transport.unsent = 1000, bytes_unsent
    endpoint.guard.drain(3, lambda: None)
    endpoint.wait(2.5)
    assert (held_transport.ends, unsent_transport.ends) == ([], []), "the peer may still read"
    endpoint.wait(1)
    assert held_transport.ends[0] == "lose"
    assert unsent_transport.ends == ["abort"]
    for protocol in (held, unsent):
        disconnect(protocol)


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
    transport.close_notify_received = False  # type: ignore[attr-defined]  # as the engine's transports have it
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
    transport.close_notify_received = False  # type: ignore[attr-defined]
    protocol.readConnectionLost()
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.CLOSED: 1}


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
