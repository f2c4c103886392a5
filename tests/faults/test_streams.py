"""Connections under faults, in memory: what passes, what ends, and what the guard makes of it."""

from __future__ import annotations

import os
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress

from suite.config.faults import Fault, Faults, Kind, Span
from suite.config.limits import Limits
from suite.faults.held import LOOK_EVERY, MOST_HELD, PATIENCE
from suite.guard.streams import QUIET
from suite.reasons import Reason
from tests.faults.endpoint import FaultyEndpoint
from tests.guard.endpoint import disconnect


def latency(seconds: float, **options: Any) -> Fault:
    return Fault(Kind.LATENCY, seconds, **options)


def test_it_is_a_transport_for_all_that_others_may_ask(make: type[FaultyEndpoint]) -> None:
    """What it does not have itself, the transport below has; but what is private to it is its own."""
    protocol, transport = make(latency(0.5)).connect()
    transport.anything = transport._private = object()
    assert protocol.anything is transport.anything
    with pytest.raises(AttributeError, match="FaultyStream has no _private"):
        _ = protocol._private


def test_a_reply_is_late_and_the_end_after_it(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(0.5))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    protocol.readConnectionLost()
    endpoint.clock.advance(0.4)
    assert (transport.value(), transport.ends) == (b"", [])
    endpoint.clock.advance(0.2)
    assert (transport.value(), transport.ends) == (b"hola", ["lose"])
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.CLOSED: 1}
    assert endpoint.said()[-1] == "closed; faults: latency 500 ms"


def test_what_comes_up_is_late_for_the_answer(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(0.5, direction="both"))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.clock.advance(0.5)
    assert (protocol.wrapped.received, transport.value()) == (4, b"")
    endpoint.clock.advance(0.5)
    assert transport.value() == b"hola"


def test_the_decision_is_logged_with_what_a_replay_needs(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(0.2), Fault(Kind.RESET, after=Span(size=65536)), seed=7)
    endpoint.connect()
    (event,) = [event for event in endpoint.events if event.get("faults")]
    assert (event["endpoint"], event["connection"], event["peer"]) == ("tcp", 1, "192.0.2.1:40000")
    assert event["faults"].startswith("latency=200ms; reset after=64KiB seed=")
    assert endpoint.decider.struck == {Kind.LATENCY: 1, Kind.RESET: 1}


def test_what_strikes_is_logged_of_each_connection(make: type[FaultyEndpoint]) -> None:
    """Also of so many that the log would otherwise count them: at the beginning and at the end."""
    endpoint = make(Fault(Kind.RESET))
    for _ in range(20):
        protocol, _ = endpoint.connect()
        disconnect(protocol)
    told = [event for event in endpoint.events if event.get("faults")]
    assert [event["connection"] for event in told] == [number for number in range(1, 21) for _ in range(2)]
    assert all("unlimited" in event for event in told), "see RateLimit"


def test_a_reset_waits_until_the_peer_has_the_bytes_before_it(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.RESET, after=Span(size=2)))
    protocol, transport = endpoint.connect()
    transport.owed = 2
    protocol.dataReceived(b"hola")
    assert (transport.value(), transport.ends) == (b"ho", [])
    transport.owed = 0
    endpoint.clock.advance(LOOK_EVERY)
    assert transport.ends == ["abort"]
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.FAULT: 1}
    assert endpoint.said()[-1] == "closed: reset at 2; faults: reset at 2"


def test_a_reset_does_not_wait_for_ever(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.RESET))
    _, transport = endpoint.connect()
    assert transport.ends == ["abort"]
    _, transport = endpoint.connect()
    stuck = make(Fault(Kind.RESET, after=Span(size=1)))
    protocol, transport = stuck.connect()
    transport.owed = 1
    protocol.dataReceived(b"x")
    for _ in range(int(PATIENCE / LOOK_EVERY) + 2):
        stuck.clock.advance(LOOK_EVERY)
    assert transport.ends == ["abort"]


def test_a_close_is_an_end_that_no_reset_overtakes(make: type[FaultyEndpoint]) -> None:
    """The FIN first; the socket is closed once the peer has it, and what arrives meanwhile is discarded."""
    endpoint = make(Fault(Kind.LIMIT, 3))
    protocol, transport = endpoint.connect()
    transport.owed = 3
    protocol.dataReceived(b"hola")
    assert (transport.value(), transport.ends) == (b"hol", ["half"])
    protocol.dataReceived(b"more")
    transport.owed = 0
    endpoint.clock.advance(LOOK_EVERY)
    assert (transport.value(), transport.ends) == (b"hol", ["half", "lose"])
    assert protocol.wrapped.received == 8


def test_a_half_close_goes_on_reading(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.HALF_CLOSE, after=Span(size=2)), limits=Limits(half_close=None))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.clock.advance(100)
    protocol.dataReceived(b"more")
    assert (transport.value(), transport.ends) == (b"ho", ["half"])
    assert transport.producerState == "producing"
    protocol.readConnectionLost()
    assert transport.ends == ["half", "lose"]


def test_a_cut_of_what_comes_up_lets_the_answers_out(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(1.0), Fault(Kind.CLOSE, after=Span(size=2), direction="up"))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    assert (transport.value(), transport.ends) == (b"", [])
    endpoint.clock.advance(1.0)
    assert (transport.value(), transport.ends) == (b"ho", ["half", "lose"])


def test_a_slow_close(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.SLOW_CLOSE, 2.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    protocol.readConnectionLost()
    assert (transport.value(), transport.ends) == (b"hola", [])
    endpoint.clock.advance(2.0)
    assert transport.ends == ["lose"]


def test_a_refused_connection_gets_nothing(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.REFUSE, every=2))
    ends = []
    for _ in range(4):
        _, transport = endpoint.connect()
        ends.append(transport.ends)
    assert ends == [[], ["abort"], [], ["abort"]]


def test_a_delay_at_accept(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.ACCEPT_DELAY, 1.0))
    _, transport = endpoint.connect()
    assert transport.producerState == "paused"
    endpoint.clock.advance(1.0)
    assert transport.producerState == "producing"


def test_over_tls_nothing_passes_before_the_handshake(make: type[FaultyEndpoint]) -> None:
    """A fault without an `after` strikes when the handshake has completed, not before."""
    endpoint = make(Fault(Kind.CLOSE), tls=True)
    protocol, transport = endpoint.connect()
    assert transport.ends == []
    transport.handshake_complete = True
    protocol.handshakeCompleted()
    assert transport.ends == ["lose"], "over TLS the transport itself sees to it that nothing is lost"


def test_faults_for_a_name(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(1.0, names=("*.example.org",)), tls=True)
    for name, late in (("a.example.org", True), ("example.org", False), (None, False)):
        protocol, transport = endpoint.connect()
        protocol.client_hello(name)
        transport.handshake_complete = True
        protocol.handshakeCompleted()
        protocol.dataReceived(b"hola")
        assert transport.value() == (b"" if late else b"hola")


def test_faults_for_a_network(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(1.0, networks=(ip_network("192.0.2.0/24"),)))
    for address, late in (
        (IPv4Address("TCP", "192.0.2.9", 1), True),
        (IPv4Address("TCP", "198.51.100.9", 1), False),
        (UNIXAddress(None), False),
    ):
        protocol, transport = endpoint.connect(address)
        protocol.dataReceived(b"hola")
        assert transport.value() == (b"" if late else b"hola")


def test_behind_a_proxy_header_the_client_decides(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.REFUSE, networks=(ip_network("192.0.2.0/24"),)), tls=True)
    proxy = IPv4Address("TCP", "127.0.0.1", 1)
    for client, ends in (("192.0.2.9", ["abort"]), ("198.51.100.9", [])):
        _, transport = endpoint.connect(proxy, header=True)
        assert transport.ends == []
        transport.read_header(IPv4Address("TCP", client, 1))
        assert transport.ends == ends


# Memory.


def test_what_is_held_is_bounded(make: type[FaultyEndpoint]) -> None:
    """A peer is paused once a direction holds so much, and read again at half of that."""
    endpoint = make(Fault(Kind.BANDWIDTH, 64 * 1024))
    protocol, transport = endpoint.connect()
    sent = b""
    while transport.producerState == "producing":
        chunk = os.urandom(16 * 1024)
        protocol.dataReceived(chunk)
        sent += chunk
    assert MOST_HELD <= len(sent) <= MOST_HELD + 32 * 1024
    while transport.producerState == "paused":
        endpoint.clock.advance(0.01)
    assert len(sent) - len(transport.value()) <= MOST_HELD // 2
    endpoint.clock.pump([0.01] * 500)
    assert transport.value() == sent


def test_a_stalled_peer_is_paused(make: type[FaultyEndpoint]) -> None:
    for direction in ("down", "up"):
        endpoint = make(Fault(Kind.STALL, direction=direction))
        protocol, transport = endpoint.connect()
        for _ in range(MOST_HELD // 1024):
            protocol.dataReceived(bytes(1024))
        assert transport.producerState == "paused"
        assert protocol.unsent >= MOST_HELD


def test_a_blackhole_reads_on(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.BLACKHOLE))
    protocol, transport = endpoint.connect()
    for _ in range(2 * MOST_HELD // 1024):
        protocol.dataReceived(bytes(1024))
    protocol.readConnectionLost()
    assert (transport.producerState, transport.value(), transport.ends) == ("producing", b"", [])
    assert (protocol.wrapped.received, protocol.unsent) == (2 * MOST_HELD, 0)


def test_a_peer_that_does_not_read(make: type[FaultyEndpoint]) -> None:
    """While the transport has paused us, nothing is written, and in the end the peer is not read either."""
    endpoint = make(latency(0.1))
    protocol, transport = endpoint.connect()
    transport.producer.pauseProducing()
    while transport.producerState == "producing":
        protocol.dataReceived(bytes(16 * 1024))
        endpoint.clock.advance(1.0)
    assert transport.value() == b""
    transport.producer.resumeProducing()
    endpoint.clock.pump([0.1] * 30)
    assert transport.producerState == "producing"
    assert len(transport.value()) == protocol.wrapped.received


# Limits and drain.


def test_a_stalled_connection_is_idle_and_its_peer_not_to_blame(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.STALL), limits=Limits(idle=10, stall=1))
    protocol, _ = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.wait(9)
    assert protocol.wrapped.reason is None
    endpoint.wait(2)
    assert protocol.wrapped.reason is Reason.IDLE


def test_a_stalled_connection_has_its_lifetime(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.STALL), limits=Limits(lifetime=5))
    protocol, _ = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.wait(6)
    assert protocol.wrapped.reason is Reason.LIFETIME


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.BLACKHOLE])
def test_a_drain_ends_what_never_ends(make: type[FaultyEndpoint], kind: Kind) -> None:
    endpoint = make(Fault(kind))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.guard.drain(3.0, lambda: None)
    endpoint.wait(3.5)
    assert transport.ends, "at the latest when the drain is over"


def test_a_drain_lets_a_late_echo_out(make: type[FaultyEndpoint]) -> None:
    """It is in progress, in either direction."""
    endpoint = make(latency(2 * QUIET, direction="both"))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.guard.drain(10 * QUIET, lambda: None)
    endpoint.wait(5 * QUIET)
    assert (transport.value(), transport.ends) == (b"hola", ["lose"])


def test_a_limit_on_bytes_holds_behind_faults(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(0.1), limits=Limits(bytes=3))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.clock.advance(0.1)
    assert (transport.value(), transport.ends) == (b"hol", ["half"])


# Requests.


def test_a_client_chooses_its_faults(make: type[FaultyEndpoint]) -> None:
    endpoint = make(requested=True)
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"latency=200ms sli")
    protocol.dataReceived(b"ce=1 seed=7\r\nhola")
    assert transport.value() == b"ok\n"
    endpoint.clock.pump([0.2, 0, 0, 0])
    assert transport.value() == b"ok\nhola"
    assert endpoint.decider.chosen == 1
    disconnect(protocol)
    assert endpoint.decider.chosen == 0


def test_a_client_that_chooses_none(make: type[FaultyEndpoint]) -> None:
    endpoint = make(requested=True)
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"\nhola")
    assert transport.value() == b"ok\nhola"


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (b"latncy=1s\n", b"latncy: is not a fault; did you mean latency?\n"),
        (b"\xff\n", b"is not a fault"),
        (bytes(600), b"a request has at most 512 bytes, and ends with a newline\n"),
        (b"reset\n", b"reset: is not allowed here; expected latency\n"),
    ],
)
def test_a_request_that_cannot_be_met(make: type[FaultyEndpoint], asked: bytes, problem: bytes) -> None:
    """The client is told, in one line, and the connection ends."""
    endpoint = make(requested=True, allowed=frozenset({Kind.LATENCY}))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(asked)
    assert problem in transport.value()
    assert transport.value().count(b"\n") == 1
    assert transport.ends == ["half", "lose"]
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.FAULT: 1}


def test_so_many_may_have_chosen_faults_at_a_time(make: type[FaultyEndpoint]) -> None:
    endpoint = make(requested=True, most=1)
    first, _ = endpoint.connect()
    first.dataReceived(b"latency=1s\n")
    second, transport = endpoint.connect()
    second.dataReceived(b"latency=1s\n")
    assert transport.value().startswith(b"1 connections have chosen faults")
    disconnect(first)
    third, transport = endpoint.connect()
    third.dataReceived(b"latency=1s\n")
    assert transport.value() == b"ok\n"


def test_a_client_chooses_by_its_name(make: type[FaultyEndpoint]) -> None:
    """There is no line to send then, and no ``ok``."""
    endpoint = make(requested=True, tls=True)
    protocol, transport = endpoint.connect()
    protocol.client_hello("latency-200ms.localhost")
    transport.handshake_complete = True
    protocol.handshakeCompleted()
    protocol.dataReceived(b"hola")
    assert transport.value() == b""
    endpoint.clock.advance(0.2)
    assert transport.value() == b"hola"


def test_a_name_that_asks_for_too_much(make: type[FaultyEndpoint]) -> None:
    endpoint = make(requested=True, tls=True, allowed=frozenset({Kind.LATENCY}))
    protocol, transport = endpoint.connect()
    protocol.client_hello("reset.localhost")
    transport.handshake_complete = True
    protocol.handshakeCompleted()
    assert transport.value() == b"reset: is not allowed here; expected latency\n"
    assert transport.ends == ["lose"]


def test_after_the_handshake_it_is_too_late_for_faults_of_tls(make: type[FaultyEndpoint]) -> None:
    endpoint = make(requested=True, tls=True)
    protocol, transport = endpoint.connect()
    transport.handshake_complete = True
    protocol.handshakeCompleted()
    protocol.dataReceived(b"latency=1s end=fin\n")
    assert transport.value() == b"end: is too late after the handshake; ask for it in the name (SNI)\n"


# Changes.


def test_a_change_is_for_new_connections(make: type[FaultyEndpoint]) -> None:
    endpoint = make(latency(1.0))
    old, before = endpoint.connect()
    endpoint.decider.faults = Faults((latency(2.0),))
    new, after = endpoint.connect()
    for protocol in (old, new):
        protocol.dataReceived(b"x")
    endpoint.clock.advance(1.0)
    assert (before.value(), after.value()) == (b"x", b"")


def test_a_change_of_an_open_connection(make: type[FaultyEndpoint]) -> None:
    """What is held keeps its delay."""
    endpoint = make(latency(1.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"a")
    endpoint.decider.faults = Faults()
    protocol.redecide()
    endpoint.clock.advance(1.0)
    protocol.dataReceived(b"b")
    assert transport.value() == b"ab"
    assert [event["faults"] for event in endpoint.events if "faults" in event][-1] == "none"
