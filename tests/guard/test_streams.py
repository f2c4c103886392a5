"""`suite.guard.streams` in memory: refusals and ends."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from ipaddress import ip_network
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.logger import formatEvent

from suite.config.limits import Limits
from suite.echo import Echo
from suite.engine.handshake import InvalidPreambleError
from suite.guard.streams import QUIET
from suite.reasons import Reason
from suite.system import Members, credentials, group_id, user_id
from tests.guard.endpoint import PEER, GuardedEndpoint, Transport, disconnect
from tests.running import client_program

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


# UNIX sockets.


def test_the_peer_of_a_unix_socket_is_known() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        uid, groups = credentials(ours)
    assert uid == os.getuid()
    assert {os.getgid(), *os.getgroups()} == groups


@pytest.mark.parametrize(
    ("users", "groups", "welcome"),
    [
        ((), (), True),
        ((os.getuid(),), (), True),
        ((4711,), (), False),
        ((), (os.getgid(),), True),
        ((), (4711,), False),
        ((4711,), (os.getgid(),), True),
    ],
)
def test_users_and_groups(
    make_endpoint: type[GuardedEndpoint], users: tuple[int, ...], groups: tuple[int, ...], welcome: bool
) -> None:
    endpoint = make_endpoint(Limits(users=(*map(str, users),), groups=(*map(str, groups),)))
    endpoint.guard.members = Members(frozenset(users), frozenset(groups))
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
    assert user_id(pwd.getpwuid(0).pw_name) == 0
    assert user_id("4711") == group_id("4711") == 4711
    with pytest.raises(KeyError):
        user_id("nobody of this name")
