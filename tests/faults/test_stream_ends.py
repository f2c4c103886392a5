"""Connections under faults, in memory: ends that meet, timers, and streams as a whole."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address

from suite.config.faults import Fault, Faults, Kind, Span
from suite.config.limits import Limits
from suite.faults.held import LOOK_EVERY, MOST_HELD, PATIENCE
from suite.guard.sweep import DRAIN_SWEEP, Phase
from suite.reasons import Reason
from tests.faults.endpoint import FaultyEndpoint
from tests.guard.endpoint import disconnect


def after(kind: Kind, **options: Any) -> Fault:
    return Fault(kind, after=Span(**options))


# Ends that meet.


def test_a_peers_end_does_not_turn_a_reset_into_a_close(make: type[FaultyEndpoint]) -> None:
    """It arrives while the bytes before the reset are still on their way."""
    endpoint = make(after(Kind.RESET, size=2))
    protocol, transport = endpoint.connect()
    transport.owed = 2
    protocol.dataReceived(b"hola")
    protocol.readConnectionLost()
    transport.owed = 0
    endpoint.clock.advance(LOOK_EVERY)
    assert transport.ends == ["abort"]


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_reset_by_the_clock_strikes_a_peer_that_does_not_read(
    make: type[FaultyEndpoint], direction: str
) -> None:
    endpoint = make(Fault(Kind.RESET, after=Span(seconds=2.0), direction=direction))
    protocol, transport = endpoint.connect()
    transport.producer.pauseProducing()
    while transport.producerState == "producing":
        protocol.dataReceived(bytes(64 * 1024))
    transport.owed = 1
    for _ in range(int((2.0 + PATIENCE) / LOOK_EVERY) + 2):
        endpoint.clock.advance(LOOK_EVERY)
    assert transport.ends == ["abort"]


def test_a_peer_may_end_after_the_limit_on_bytes_has_ended_our_side(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.LATENCY, 0.1), limits=Limits(bytes=3))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.clock.advance(0.1)
    assert transport.ends == ["half"]
    protocol.readConnectionLost()
    endpoint.clock.advance(0.1)
    assert transport.ends == ["half", "lose"]


def test_a_slow_close_of_both_sides_comes_once(make: type[FaultyEndpoint]) -> None:
    """After the limit on bytes has ended our side, and while that is delayed, the peer ends its own."""
    endpoint = make(Fault(Kind.SLOW_CLOSE, 2.0), limits=Limits(bytes=3))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    endpoint.clock.advance(1.0)
    protocol.readConnectionLost()
    assert transport.ends == []
    endpoint.clock.advance(1.0)
    assert transport.ends == ["lose"]


def test_an_end_that_is_seen_twice(make: type[FaultyEndpoint]) -> None:
    """As Twisted's own transports report it, if they are told to read again."""
    endpoint = make(Fault(Kind.LATENCY, 1.0, direction="up"))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    protocol.readConnectionLost()
    protocol.readConnectionLost()
    assert (transport.value(), transport.ends) == (b"", [])
    endpoint.clock.advance(1.0)
    assert (transport.value(), transport.ends) == (b"hola", ["lose"])


def test_a_half_close_lasts_as_long_as_its_limit(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.HALF_CLOSE), limits=Limits(half_close=5.0))
    protocol, transport = endpoint.connect()
    assert transport.ends == ["half"]
    protocol.dataReceived(b"hola")
    endpoint.wait(6.0)
    assert transport.ends == ["half", "abort"]
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.FAULT: 1}


def test_a_blackhole_that_swallows_an_end_has_the_limit_of_half_closed_ones(
    make: type[FaultyEndpoint],
) -> None:
    endpoint = make(Fault(Kind.BLACKHOLE), limits=Limits(half_close=5.0))
    protocol, transport = endpoint.connect()
    protocol.readConnectionLost()
    assert protocol.wrapped.phase is Phase.ENDING
    endpoint.wait(6.0)
    assert transport.ends == ["abort"]


@pytest.mark.parametrize("kind", [Kind.LIMIT, Kind.CLOSE, Kind.HALF_CLOSE, Kind.RESET])
@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("sizes", [[9], [5, 4], [1] * 9])
def test_all_that_was_read_is_counted_where_a_fault_cuts(
    make: type[FaultyEndpoint], kind: Kind, direction: str, sizes: list[int]
) -> None:
    """And 5 bytes come back, however they came."""
    cut = Fault(kind, 5, direction=direction) if kind is Kind.LIMIT else after(kind, size=5)
    endpoint = make(cut)
    protocol, transport = endpoint.connect()
    transport.owed = 5
    for size in sizes:
        protocol.dataReceived(bytes(size))
    assert transport.value() == bytes(5)
    assert protocol.wrapped.received == 9


def test_a_drain_ends_what_a_slow_close_delays(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.SLOW_CLOSE, 100.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    protocol.readConnectionLost()
    endpoint.guard.drain(3.0, lambda: None)
    endpoint.wait(3.0 + 3 * DRAIN_SWEEP)
    assert (transport.value(), transport.ends) == (b"hola", ["abort"])


# Limits.


def test_a_slow_line_is_not_idle(make: type[FaultyEndpoint]) -> None:
    """While bytes trickle down to the peer, it is not at an end: neither idle nor half-closed for long."""
    endpoint = make(Fault(Kind.BANDWIDTH, 10), limits=Limits(idle=2.0, half_close=2.0, stall=2.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(bytes(50))
    endpoint.wait(4.0)
    assert protocol.wrapped.reason is None
    protocol.readConnectionLost()
    endpoint.wait(2.0)
    assert (transport.value(), transport.ends) == (bytes(50), ["lose"])
    assert protocol.wrapped.reason is None


def test_a_peer_that_does_not_read_a_slow_line_stalls(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.BANDWIDTH, 10), limits=Limits(stall=2.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(bytes(500))
    transport.owed = 1
    transport.producer.pauseProducing()
    endpoint.wait(3.0)
    assert protocol.wrapped.reason is Reason.STALL


def test_idle_applies_while_a_fault_holds_the_answer_and_lets_it_out(make: type[FaultyEndpoint]) -> None:
    for direction in ("up", "down"):
        endpoint = make(Fault(Kind.LATENCY, 3.0, direction=direction), limits=Limits(idle=1.0))
        protocol, transport = endpoint.connect()
        protocol.dataReceived(b"hola")
        endpoint.wait(5.0)
        assert (transport.value(), transport.ends) == (b"hola", ["lose"])
        assert protocol.wrapped.reason is Reason.IDLE


def test_what_the_wrapped_protocol_pauses_is_no_faster_afterwards(make: type[FaultyEndpoint]) -> None:
    """The line up is not used while nobody takes what comes, and does not make up for it."""
    endpoint = make(Fault(Kind.BANDWIDTH, 100, direction="up"))
    protocol, transport = endpoint.connect()
    protocol.pauseProducing()
    protocol.dataReceived(bytes(1000))
    endpoint.clock.advance(5.0)
    protocol.resumeProducing()
    endpoint.clock.pump([0.01] * 100)
    assert 90 <= len(transport.value()) <= 101


def test_a_delay_at_accept_is_no_part_of_the_handshake(make: type[FaultyEndpoint]) -> None:
    """The peer has as long for it as ever, once we read."""
    endpoint = make(Fault(Kind.ACCEPT_DELAY, 5.0), tls=True, limits=Limits(handshake=2.0))
    protocol, transport = endpoint.connect()
    endpoint.wait(6.5)
    assert transport.ends == []
    endpoint.wait(1.0)
    assert transport.ends == ["abort"]
    assert protocol.wrapped.reason is Reason.HANDSHAKE


# Timers.


def test_a_connection_has_one_timer_at_most(make: type[FaultyEndpoint]) -> None:
    """Which ends with it: with many slow connections that counts."""
    endpoint = make(
        Fault(Kind.LATENCY, 0.3, direction="both"),
        Fault(Kind.BANDWIDTH, 1000, direction="both"),
        Fault(Kind.SLICE, 3, gap=0.01),
        Fault(Kind.SLOW_CLOSE, 1.0),
        after(Kind.RESET, seconds=60.0),
    )
    protocols = []
    for _ in range(10):
        protocol, _ = endpoint.connect()
        protocol.dataReceived(bytes(100))
        protocol.readConnectionLost()
        protocols.append(protocol)
    for _ in range(300):
        endpoint.clock.advance(0.01)
        assert len(endpoint.clock.getDelayedCalls()) <= len(protocols) + 1, "and the guard's sweep"
    for protocol in protocols:
        disconnect(protocol)
    assert endpoint.clock.getDelayedCalls() == []


def test_a_connection_without_anything_due_has_none(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.LATENCY, 0.3), Fault(Kind.STALL, after=Span(size=100)))
    protocol, transport = endpoint.connect()
    (sweep,) = endpoint.clock.getDelayedCalls()
    protocol.dataReceived(b"hola")
    endpoint.clock.advance(0.2)
    assert len(endpoint.clock.getDelayedCalls()) == 2
    endpoint.clock.advance(0.2)
    assert transport.value() == b"hola"
    assert len(endpoint.clock.getDelayedCalls()) == 1
    assert sweep is not None


class PullProducer:
    """Writes a number each time it is asked, without end."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.count = 0

    def resumeProducing(self) -> None:
        self.count += 1
        self.consumer.write(b"%d\n" % self.count)

    def stopProducing(self) -> None:
        """The connection is lost."""


def test_a_producer_that_waits_to_be_asked(make: type[FaultyEndpoint]) -> None:
    """It is asked once what it wrote has been sent, unless the peer does not read."""
    endpoint = make(Fault(Kind.LATENCY, 1.0), limits=Limits(idle=None))
    protocol, transport = endpoint.connect()
    protocol.registerProducer(PullProducer(protocol), False)
    endpoint.clock.pump([0.5] * 7)
    assert transport.value() == b"1\n2\n3\n"
    transport.producer.pauseProducing()
    endpoint.clock.pump([0.5] * 7)
    assert transport.value() == b"1\n2\n3\n"
    transport.producer.resumeProducing()
    endpoint.clock.pump([0.5] * 3)
    assert transport.value() == b"1\n2\n3\n4\n5\n"


# Deciding again.


def test_deciding_again_keeps_what_the_name_decides(make: type[FaultyEndpoint]) -> None:
    endpoint = make(Fault(Kind.LATENCY, 1.0, names=("localhost",)), tls=True)
    protocol, transport = endpoint.connect()
    protocol.client_hello("localhost")
    transport.handshake_complete = True
    protocol.handshakeCompleted()
    protocol.redecide()
    protocol.dataReceived(b"hola")
    assert transport.value() == b""
    endpoint.clock.advance(1.0)
    assert transport.value() == b"hola"


def test_nothing_is_decided_again_before_it_was_decided(make: type[FaultyEndpoint]) -> None:
    """Behind a PROXY header the client is not known yet."""
    endpoint = make(tls=True)
    protocol, transport = endpoint.connect(header=True)
    endpoint.decider.faults = Faults((Fault(Kind.LATENCY, 1.0),))
    protocol.redecide()
    assert not protocol.decision
    transport.read_header(IPv4Address("TCP", "192.0.2.9", 1))
    assert [fault.kind for fault in protocol.decision.faults] == [Kind.LATENCY]
    assert endpoint.decider.struck == {Kind.LATENCY: 1}


def test_a_connection_that_has_chosen_keeps_its_choice(make: type[FaultyEndpoint]) -> None:
    endpoint = make(requested=True)
    protocol, _ = endpoint.connect()
    protocol.dataReceived(b"latency=1s\n")
    endpoint.decider.faults = Faults((after(Kind.CLOSE, size=1),))
    protocol.redecide()
    assert [fault.kind for fault in protocol.decision.faults] == [Kind.LATENCY]


def test_a_change_lets_go_of_a_stalled_connection(make: type[FaultyEndpoint]) -> None:
    """The peer that was paused because of it is read again."""
    endpoint = make(Fault(Kind.STALL))
    protocol, transport = endpoint.connect()
    sent = 0
    while transport.producerState == "producing":
        protocol.dataReceived(bytes(16 * 1024))
        sent += 16 * 1024
    endpoint.decider.faults = Faults()
    protocol.redecide()
    endpoint.clock.pump([0.0] * 5)
    assert (len(transport.value()), transport.producerState) == (sent, "producing")


# Requests.


@pytest.mark.parametrize("asked", [b"latency=1s", b""])
def test_an_end_before_the_end_of_a_request(make: type[FaultyEndpoint], asked: bytes) -> None:
    """Without a line there is no request: a health check, or a mistake, which is said."""
    endpoint = make(requested=True)
    protocol, transport = endpoint.connect()
    if asked:
        protocol.dataReceived(asked)
    protocol.readConnectionLost()
    assert transport.value() == (b"a request ends with a newline\n" if asked else b"")
    assert transport.ends[-1] == "lose"


def test_the_longest_request(make: type[FaultyEndpoint]) -> None:
    """512 bytes with the end of line, however they come."""
    for spaces, answer in ((512 - len("slice=1\n"), b"ok\n"), (513 - len("slice=1\n"), b"a request has at")):
        line = b"slice=1" + b" " * spaces + b"\n"
        for pieces in ([line], [line[at : at + 1] for at in range(len(line))]):
            endpoint = make(requested=True)
            protocol, transport = endpoint.connect()
            for piece in pieces:
                protocol.dataReceived(piece)
            assert transport.value().startswith(answer)


def test_offsets_of_a_requested_fault_are_those_behind_the_request(make: type[FaultyEndpoint]) -> None:
    endpoint = make(requested=True)
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"limit=4\nhola mundo")
    assert transport.value() == b"ok\nhola"
    assert protocol.wrapped.received == len(b"limit=4\nhola mundo")


# Streams as a whole.

WINDOWS = {
    "direction": st.sampled_from(["down", "up", "both"]),
    "after": st.none() | st.integers(0, 3000).map(lambda size: Span(size=size)),
    "lasts": st.none() | st.integers(1, 3000).map(lambda size: Span(size=size)),
}

HARMLESS = st.lists(
    st.one_of(
        st.builds(Fault, st.just(Kind.LATENCY), st.floats(0, 0.5), **WINDOWS),
        st.builds(Fault, st.just(Kind.BANDWIDTH), st.integers(1000, 10**7), **WINDOWS),
        st.builds(Fault, st.just(Kind.SLICE), st.integers(1, 500), gap=st.floats(0, 0.01), **WINDOWS),
        st.builds(
            Fault,
            st.just(Kind.STALL),
            direction=WINDOWS["direction"],
            after=WINDOWS["after"],
            lasts=st.floats(0.01, 1.0).map(lambda seconds: Span(seconds=seconds)),
        ),
        st.builds(Fault, st.just(Kind.SLOW_CLOSE), st.floats(0.01, 1.0)),
        st.builds(Fault, st.just(Kind.ACCEPT_DELAY), st.floats(0.01, 1.0)),
    ),
    max_size=5,
)

STEPS = st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 0.3), st.booleans()), max_size=12)


@settings(max_examples=60)
@given(HARMLESS, STEPS, st.lists(HARMLESS, max_size=2))
def test_identity(faults: list[Fault], steps: list[tuple[int, float, bool]], changes: list[Any]) -> None:
    """Every byte comes back, and the end after it, whatever the peer's pace, and the changes meanwhile."""
    limits = Limits(idle=None, half_close=None, stall=None)
    endpoint = FaultyEndpoint(*faults, limits=limits)
    protocol, transport = endpoint.connect()
    source, sent = random.Random(7), b""
    for number, (size, pause, taking) in enumerate(steps):
        if size and transport.producerState == "producing":
            data = source.randbytes(size)
            protocol.dataReceived(data)
            sent += data
        if number % 4 == 3 and changes:
            endpoint.decider.faults = Faults(tuple(changes.pop()))
            protocol.redecide()
        if transport.producer is not None:
            (transport.producer.resumeProducing if taking else transport.producer.pauseProducing)()
        endpoint.clock.advance(pause)
    for _ in range(200):  # whatever delays the accept
        if transport.producerState == "producing":
            break
        endpoint.clock.advance(0.1)
    protocol.readConnectionLost()
    if transport.producer is not None:
        transport.producer.resumeProducing()
    for _ in range(3000):
        if transport.ends:
            break
        endpoint.clock.advance(0.02)
    assert transport.value() == sent
    assert transport.ends == ["lose"]
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.CLOSED: 1}
    assert endpoint.guard.received == len(sent)
    assert endpoint.clock.getDelayedCalls() == []


def test_much_in_many_pieces_in_both_directions(make: type[FaultyEndpoint]) -> None:
    """1 MiB, byte by byte one way and slowly the other: never more than the bound is inside."""
    endpoint = make(
        Fault(Kind.SLICE, 700, direction="both"),
        Fault(Kind.BANDWIDTH, 2**20, direction="both"),
        Fault(Kind.LATENCY, 0.2, direction="both"),
    )
    protocol, transport = endpoint.connect()
    data, at = random.Random(1).randbytes(2**20), 0
    while len(transport.value()) < len(data):
        if at < len(data) and transport.producerState == "producing":
            protocol.dataReceived(data[at : at + 64 * 1024])
            at += 64 * 1024
        endpoint.clock.advance(0.01)
        assert protocol.unsent <= 2 * (MOST_HELD + 64 * 1024)
    assert transport.value() == data
