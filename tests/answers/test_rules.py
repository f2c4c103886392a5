"""What holds for every answer in the table, under a guard and over UDP, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from suite.answers.answer import Answer
from suite.answers.table import ANSWERS, ECHO
from suite.config.faults import Fault, Faults, Kind
from suite.config.limits import Limits
from suite.engine.interfaces import INeedsNoLogContext
from suite.faults.decide import Decider
from suite.guard.datagrams import DatagramPolicy
from suite.guard.sweep import Phase
from suite.reasons import Reason
from tests.guard.endpoint import GuardedEndpoint, Transport, disconnect, observed

#: The answers that end by themselves.
ONCE = ("report", "daytime", "time", "qotd")

OTHERS = [answer for answer in ANSWERS.values() if answer is not ECHO]

STRANGER = ("192.0.2.7", 40_000)

each = pytest.mark.parametrize("answer", OTHERS, ids=lambda answer: answer.name)
once = pytest.mark.parametrize("answer", [ANSWERS[name] for name in ONCE], ids=lambda answer: answer.name)


class Wire(Transport):
    """A transport whose connection is established, unless it is told otherwise.

    Its peer does not read: it pauses its producer when it has more than *room* bytes.
    """

    def __init__(self, *, shaken: bool = True, room: int = 200_000) -> None:
        super().__init__()
        self.handshake_complete = shaken
        self.room = room
        self.preamble = None

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) > self.room and self.producer is not None:
            self.producer.pauseProducing()

    def getHandle(self) -> None:
        """It has none."""


class AnsweringEndpoint(GuardedEndpoint):
    """An endpoint with an answer."""

    def answer(self, answer: Answer, *faults: Fault, **options: Any) -> tuple[Any, Wire]:
        """A connection that gets *answer*, under *faults*, and its transport."""
        made: Any = answer.stream
        self.factory.protocol = self.factory.measured = made
        if faults:
            self.factory.decider = Decider(Faults(faults))
        protocol: Any = self.factory.buildProtocol(None)
        wire = Wire(**options)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return getattr(protocol, "wrapped", protocol), wire


@pytest.fixture
def endpoint() -> Iterator[type[AnsweringEndpoint]]:
    with observed(AnsweringEndpoint) as kind:
        yield kind


def test_names_and_summaries() -> None:
    assert all(name == answer.name for name, answer in ANSWERS.items())
    assert all(answer.summary and "\n" not in answer.summary for answer in ANSWERS.values())


@each
def test_the_class_of_every_answer(answer: Answer) -> None:
    """None is echoed by the engine, nor asks for Twisted's logging context, nor logs its start."""
    stream, datagrams = answer.stream, answer.datagrams
    assert stream is not None
    assert datagrams is not None
    assert INeedsNoLogContext.implementedBy(stream)
    assert INeedsNoLogContext.implementedBy(datagrams)
    assert not getattr(stream.dataReceived, "writes_back", False)
    assert not datagrams.noisy


@each
def test_nothing_is_sent_before_the_handshake(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    here = endpoint(handshakes=True)
    protocol, wire = here.answer(answer, shaken=False)
    here.clock.advance(0)
    assert wire.value() == b""
    wire.handshake_complete = True
    protocol.handshakeCompleted()
    here.clock.advance(0)
    assert bool(wire.value()) is (answer.name != "discard")
    assert (wire.ends == ["half"]) is (answer.name in ONCE)


@each
def test_what_arrives_is_counted(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    here = endpoint()
    protocol, wire = here.answer(answer)
    protocol.dataReceived(b"12345")
    protocol.readConnectionLost()
    assert wire.ends[-1] == "lose"
    disconnect(protocol)
    assert here.guard.received == 5
    assert here.guard.ends == {Reason.ANSWERED if answer.name in ONCE else Reason.CLOSED: 1}


@once
def test_an_end_that_the_peer_does_not_take(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    """A peer that never closes its side is not waited for; what it sends is no progress."""
    here = endpoint(Limits(half_close=2.0))
    protocol, wire = here.answer(answer)
    assert protocol.phase is Phase.ENDING
    for _ in range(10):
        protocol.dataReceived(b"more")
        here.wait(0.5)
    assert wire.ends == ["half", "abort"]


@each
def test_a_peer_that_does_not_read(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    here = endpoint(Limits(stall=2.0, half_close=None, idle=None))
    _, wire = here.answer(answer, room=0)
    wire.owed = 100 if answer.name != "discard" else 0
    here.wait(5.0)
    assert ("abort" in wire.ends) is (answer.name != "discard")
    assert len(wire.value()) < 100_000


@each
def test_bytes(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    here = endpoint(Limits(bytes=3))
    protocol, wire = here.answer(answer)
    here.clock.advance(0)
    protocol.dataReceived(b"1234")
    here.clock.advance(0)
    assert len(wire.value()) == (0 if answer.name == "discard" else 3)
    assert protocol.reason is Reason.BYTES
    assert wire.ends == ["half"]


@each
def test_a_drain(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    """An answer without end is no reason to wait; others end once they are silent."""
    here = endpoint()
    protocol, wire = here.answer(answer)
    here.clock.advance(0)
    drained: list[bool] = []
    here.guard.drain(8.0, lambda: drained.append(True))
    here.wait(0.5 if answer.name == "chargen" else 2.0)
    assert wire.ends
    sent = wire.value()
    here.wait(0.5)
    assert wire.value() == sent
    disconnect(protocol)
    assert drained == [True]


@each
def test_refused_users_get_nothing(
    answer: Answer, endpoint: type[AnsweringEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who connects to a UNIX socket is known once there is a connection, and before its answer."""
    here = endpoint()
    monkeypatch.setattr(here.guard, "admits_user", lambda transport: False)
    monkeypatch.setattr(Wire, "getPeer", lambda self: object())
    _, wire = here.answer(answer)
    here.clock.advance(0)
    assert (wire.value(), wire.ends) == (b"", ["abort"])


@each
def test_an_answer_under_latency(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    here = endpoint()
    protocol, wire = here.answer(answer, Fault(Kind.LATENCY, 1.0))
    here.clock.advance(0)
    assert (wire.value(), wire.ends) == (b"", [])
    here.wait(2.5)
    assert bool(wire.value()) is (answer.name != "discard")
    if answer.name in ONCE:
        assert wire.ends == ["half"]
        assert protocol.reason is Reason.ANSWERED


@each
def test_an_answer_after_a_delay_at_accept(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    here = endpoint()
    _, wire = here.answer(answer, Fault(Kind.ACCEPT_DELAY, 1.0))
    here.wait(0.5)
    assert (wire.value(), wire.ends) == (b"", [])
    here.wait(1.0)
    assert bool(wire.value()) is (answer.name != "discard")


@once
def test_an_answer_after_a_request_for_faults(answer: Answer, endpoint: type[AnsweringEndpoint]) -> None:
    here = endpoint()
    made: Any = answer.stream
    here.factory.protocol = made
    here.factory.decider = Decider(Faults(requested=True))
    protocol: Any = here.factory.buildProtocol(None)
    wire = Wire()
    protocol.makeConnection(wire)
    assert wire.value() == b""
    protocol.dataReceived(b"latency=10ms\n")
    assert wire.value() == b"ok\n"
    here.wait(0.5)
    assert len(wire.value()) > 3
    assert wire.ends == ["half"]


# UDP.


class Port:
    """A UDP port that keeps what it sends."""

    sent_to_many = False

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def write(self, datagram: bytes, addr: Any) -> None:
        self.sent.append((datagram, addr))

    def getHost(self) -> Any:
        from twisted.internet.address import IPv4Address

        return IPv4Address("UDP", "127.0.0.1", 7)


def datagrams(answer: Answer, limits: Limits | None = None) -> tuple[DatagramProtocol, Port, DatagramPolicy]:
    policy = DatagramPolicy(limits, clock=lambda: 0.0, name="udp")
    make: Any = answer.datagrams
    protocol, port = make(policy), Port()
    protocol.makeConnection(port)
    return protocol, port, policy


@each
@pytest.mark.parametrize("size", [0, 1, 3, 4, 30, 300, 513, 65_507])
def test_no_answer_is_longer_than_the_datagram(answer: Answer, size: int) -> None:
    protocol, port, policy = datagrams(answer)
    protocol.datagramReceived(bytes(size), STRANGER)
    assert all(len(sent) <= size and addr == STRANGER for sent, addr in port.sent)
    unanswered = answer.name != "discard" and not port.sent
    assert policy.refusals == ({Reason.SIZE: 1} if unanswered else {})
    if size >= 513:
        assert len(port.sent) == (answer.name != "discard")


@each
def test_who_is_not_answered(answer: Answer) -> None:
    limits = Limits(deny=Limits().rate_exempt, rate=1, burst=1, rate_exempt=())
    protocol, port, policy = datagrams(answer, limits)
    for addr in (("127.0.0.1", 40_000), ("192.0.2.7", 53), *[STRANGER] * 3):
        protocol.datagramReceived(bytes(1000), addr)
    if answer.name == "discard":
        assert (port.sent, policy.refusals) == ([], {})
        return
    assert len(port.sent) == 1
    assert policy.refusals == {Reason.DENIED: 1, Reason.SOURCE: 1, Reason.RATE: 2}
    port.sent_to_many = True
    protocol.datagramReceived(bytes(1000), STRANGER)
    assert policy.refusals[Reason.DESTINATION] == 1


def test_two_servers_do_not_answer_each_other_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although their answers are never alike."""
    from suite.answers import answer as module

    monkeypatch.setattr(module, "LOOK_EVERY", 1)
    protocol, port, policy = datagrams(ANSWERS["chargen"], Limits(rate=None))
    for number in range(40):
        protocol.datagramReceived(bytes([number]) * 100, STRANGER)
    assert policy.refusals == {Reason.LOOP: 1}
    assert len(port.sent) == 39
