"""`suite.faults.datagrams`: faults between a port and what answers, in memory."""

from __future__ import annotations

import os
import sys
from collections import Counter
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from suite.config.faults import Fault, Faults, Kind
from suite.config.limits import Limits
from suite.echo import EchoDatagram
from suite.faults.datagrams import FORGOTTEN_AFTER, DatagramFaults, FaultyDatagrams
from suite.faults.line import LONGEST_WAIT
from suite.faults.packets import Arrival, PacketDecider
from suite.guard.datagrams import DatagramPolicy
from suite.reasons import Reason
from tests.faults.test_packets import declared

CLIENT = ("127.0.0.1", 40_000)
OTHER = ("127.0.0.1", 40_001)


class Transport:
    """A UDP port without a socket.

    :ivar sent: what was sent, when and to whom.
    """

    sent_to_many = False
    connected = True

    def __init__(self, clock: Clock) -> None:
        self.sent: list[tuple[float, bytes, Any]] = []
        self._clock = clock

    def write(self, datagram: bytes, addr: Any = None) -> None:
        assert self.connected
        self.sent.append((self._clock.seconds(), datagram, addr))


class Endpoint:
    """A UDP endpoint with faults, and its only port."""

    def __init__(self, *entries: Fault, seed: int = 0, limits: Limits | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.policy = DatagramPolicy(limits or Limits(rate=None), clock=self.clock.seconds, name="udp")
        self.struck: Counter[Kind] = Counter()
        self.faults = DatagramFaults(self.clock, self.policy, self.struck)
        self.faults.faults = Faults(entries, seed, **options)
        self.transport = Transport(self.clock)
        self.protocol = FaultyDatagrams(EchoDatagram(self.policy), self.policy, self.faults)
        self.protocol.makeConnection(self.transport)  # type: ignore[arg-type]  # all that it needs of one

    def receive(self, data: bytes, addr: tuple[str, int] = CLIENT) -> list[bytes]:
        """What is sent at once when *data* comes from *addr*."""
        before = len(self.transport.sent)
        self.protocol.datagramReceived(data, addr)
        return [data for _, data, _ in self.transport.sent[before:]]

    def after(self, seconds: float) -> list[bytes]:
        """What is sent in the next *seconds*."""
        before = len(self.transport.sent)
        self.clock.pump([0.001] * round(seconds * 1000))
        return [data for _, data, _ in self.transport.sent[before:]]

    @property
    def idle(self) -> bool:
        line = self.faults.line
        return not (line.waiting or line.held or self.clock.getDelayedCalls())


harmless = (Kind.DUPLICATE, Kind.REORDER, Kind.DELAY, Kind.RATE)
sources = st.sampled_from([CLIENT, OTHER, ("10.1.2.3", 40_000)])


@given(
    st.lists(declared(harmless), max_size=5),
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, 50), sources, st.floats(0, 0.3)), max_size=20),
)
def test_nothing_harmful_loses_or_changes_anything(
    entries: list[Fault], seed: int, arriving: list[tuple[int, tuple[str, int], float]]
) -> None:
    """Every datagram comes once, or twice if that was predicted; never before its time, nor to another."""
    endpoint = Endpoint(*entries, seed=seed)
    arrived = []
    arrivals = []
    for number, (size, source, pause) in enumerate(arriving):
        arrivals.append(Arrival(size + 1, source[0], endpoint.clock.seconds()))
        arrived.append((endpoint.clock.seconds(), bytes([number]) + bytes(size), source))
        endpoint.receive(*arrived[-1][1:])
        endpoint.clock.advance(pause)
    for _ in range(10_000):
        if not endpoint.clock.getDelayedCalls():
            break
        endpoint.clock.advance(
            max(0.0, endpoint.clock.getDelayedCalls()[0].getTime() - endpoint.clock.seconds())
        )
    assert endpoint.idle
    first = arrivals[0].seconds if arrivals else 0.0
    arrivals = [arrival._replace(seconds=arrival.seconds - first) for arrival in arrivals]
    verdicts = PacketDecider(Faults(tuple(entries), seed)).predict(arrivals)
    for (time, data, source), verdict in zip(arrived, verdicts, strict=True):
        came = [when for when, what, whom in endpoint.transport.sent if (what, whom) == (data, source)]
        assert len(came) == 1 + verdict.duplicated
        assert all(when >= time + verdict.delay - 1e-9 for when in came)
    assert len(endpoint.transport.sent) == len(arrived) + sum(verdict.duplicated for verdict in verdicts)


def test_the_log_says_what_a_replay_needs() -> None:
    """Once, and again when the faults change, with the first datagram for which it holds."""
    loss, late = Fault(Kind.LOSS, 0.25), Fault(Kind.DELAY, 0.2, jitter=0.1)
    endpoint = Endpoint(loss, seed=7)
    with capturedLogs() as events:
        for _ in range(3):
            endpoint.receive(b"hola")
        endpoint.faults.faults = Faults((loss, late), 7)
        for _ in range(2):
            endpoint.receive(b"hola")
        endpoint.faults.faults = Faults()
        endpoint.receive(b"hola")
        endpoint.faults.faults = Faults()
        endpoint.faults.faults = Faults((loss,), 8)
        endpoint.receive(b"hola")
    told = [event for event in events if "unlimited" in event]
    assert [formatEvent(event) for event in told] == [
        "faults from datagram 1: loss=0.25 seed=7",
        "faults from datagram 4: loss=0.25; delay=200ms jitter=100ms seed=7",
        "faults from datagram 6: none",
        "faults from datagram 1: loss=0.25 seed=8",
    ]
    assert {event["endpoint"] for event in told} == {"udp"}


def test_of_faults_that_a_source_chooses_there_is_nothing_to_repeat() -> None:
    endpoint = Endpoint(requested=True)
    with capturedLogs() as events:
        assert endpoint.receive(b"truncate=1 " * 4) == [b"ok\n"]
        assert endpoint.receive(b"hola") == [b"h"]
    assert not [event for event in events if "from datagram" in (formatEvent(event) or "")]


@pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")
def test_workers_number_datagrams_together() -> None:
    """Until nothing is declared, at all of them: then the next one is number 1 again."""
    from suite.guard.shared import Shared, make_counter

    shared, counter = Shared(2), make_counter()
    one, other = Endpoint(), Endpoint()
    both = one, other
    third = Faults((Fault(Kind.LOSS, 1.0, every=3),))
    for _ in range(2):
        for worker, endpoint in enumerate(both, 1):
            endpoint.faults.share = shared.of(worker).endpoint(0, counter)
            endpoint.faults.faults = third
        answers = [len(endpoint.receive(b"hola")) for endpoint in (one, other, one, other, one, one, other)]
        assert answers == [1, 1, 0, 1, 1, 0, 1]
        one.faults.faults = Faults()
        assert other.receive(b"hola") == [b"hola"]  # it is told later
        other.faults.faults = Faults()
    # One that starts later goes on with the numbers of the others.
    one.faults.faults = third
    assert [len(one.receive(b"hola")) for _ in range(2)] == [1, 1]
    other.faults.faults = third
    assert other.receive(b"hola") == []
    # What strikes once does so at one of them.
    for endpoint in both:
        endpoint.faults.faults = Faults((Fault(Kind.LOSS, 1.0, once=True),))
    assert [len(endpoint.receive(b"hola")) for endpoint in (one, other, one)] == [0, 1, 1]
    shared.close()
    os.close(counter)


def test_what_is_predicted_happens() -> None:
    entries = (Fault(Kind.LOSS, 0.3), Fault(Kind.TRUNCATE, 5, chance=0.5), Fault(Kind.CORRUPT, 0.1))
    endpoint = Endpoint(*entries, seed=3)
    verdicts = PacketDecider(Faults(entries, 3)).predict(Arrival(20) for _ in range(200))
    data = bytes(range(20))
    for verdict in verdicts:
        assert endpoint.receive(data) == ([] if verdict.lost else [verdict.apply(data)])
    counts = Counter(kind for verdict in verdicts for kind in verdict.kinds)
    assert endpoint.struck == counts
    assert counts.keys() == {Kind.LOSS, Kind.TRUNCATE, Kind.CORRUPT}


# Who is answered.


def test_what_is_not_admitted_is_not_counted_nor_answered() -> None:
    limits = Limits(rate=None, deny=(ip_network("10.0.0.0/8"),))
    endpoint = Endpoint(Fault(Kind.LOSS, 1.0, every=2), limits=limits)
    assert endpoint.receive(b"1") == [b"1"]
    for source in (("10.1.2.3", 40_000), ("127.0.0.1", 7), ("224.0.0.1", 40_000)):
        assert endpoint.receive(b"no", source) == []
    endpoint.transport.sent_to_many = True
    assert endpoint.receive(b"no") == []
    endpoint.transport.sent_to_many = False
    assert endpoint.receive(b"2") == []
    assert endpoint.receive(b"3") == [b"3"]
    assert endpoint.policy.refusals == {Reason.DENIED: 1, Reason.SOURCE: 2, Reason.DESTINATION: 1}
    assert endpoint.struck == {Kind.LOSS: 1}


def test_a_copy_costs_a_token() -> None:
    """A source at its limit gets no more replies than without faults."""
    limits = Limits(rate=1, burst=5, rate_exempt=())
    endpoint = Endpoint(Fault(Kind.DUPLICATE, 1.0), limits=limits)
    assert [len(endpoint.receive(b"hola")) for _ in range(5)] == [2, 2, 1, 0, 0]
    assert endpoint.policy.refusals == {Reason.RATE: 2}
    assert endpoint.struck == {Kind.DUPLICATE: 2}
    assert [len(endpoint.receive(b"hola", ("192.0.2.1", 40_000))) for _ in range(2)] == [2, 2]


def test_a_source_without_a_rate_gets_all_copies() -> None:
    endpoint = Endpoint(Fault(Kind.DUPLICATE, 1.0), limits=Limits(rate=1, burst=1))
    assert [len(endpoint.receive(b"hola")) for _ in range(9)] == [2] * 9  # loopback is exempt


def test_no_datagram_gets_longer() -> None:
    entries = [Fault(kind, 1.0) for kind in (Kind.CORRUPT, Kind.DUPLICATE, Kind.REORDER)]
    endpoint = Endpoint(*entries, Fault(Kind.TRUNCATE, 100))
    for size in (0, 1, 99, 100, 101, 65_507):
        endpoint.receive(bytes(size))
    endpoint.after(LONGEST_WAIT + 0.01)
    assert sorted(len(data) for _, data, _ in endpoint.transport.sent) == [0, 0, 1, 1, 99, 99] + [100] * 6


# Changes.


def test_a_change_leaves_what_is_late_and_the_count() -> None:
    endpoint = Endpoint(Fault(Kind.DELAY, 0.2))
    endpoint.receive(b"1")
    endpoint.faults.faults = Faults((Fault(Kind.LOSS, 1.0, every=3),))
    assert endpoint.receive(b"2") == [b"2"]
    assert endpoint.receive(b"3") == []
    assert endpoint.after(0.21) == [b"1"]
    endpoint.faults.faults = Faults()
    assert not endpoint.faults.any
    assert [endpoint.receive(b"%d" % number) for number in (4, 5, 6)] == [[b"4"], [b"5"], [b"6"]]
    endpoint.faults.faults = Faults((Fault(Kind.LOSS, 1.0, every=3),))
    assert [len(endpoint.receive(b"")) for _ in range(4)] == [1, 1, 0, 1]  # counted from 1 again


def test_what_is_late_when_its_port_has_gone_is_lost() -> None:
    """A port that is not one of ours; those of ours have another way, see `tests.engine.test_datagram`."""
    endpoint = Endpoint(Fault(Kind.DELAY, 0.2))
    endpoint.receive(b"1")
    endpoint.protocol.doStop()
    endpoint.transport.connected = False
    assert endpoint.after(0.3) == []
    assert endpoint.idle
    assert endpoint.protocol.wrapped.transport is None


# Requests.


def requested(**options: Any) -> Endpoint:
    return Endpoint(requested=True, **options)


def test_a_source_chooses() -> None:
    endpoint = requested(seed=5)
    assert endpoint.receive(b"loss=1 every=2\n")[0].startswith(b"error: every: cannot be requested")
    assert endpoint.receive(b"truncate=3 delay=200ms") == [b"ok\n"]
    assert endpoint.receive(b"hello") == []
    assert endpoint.receive(b"truncate=1 loss=1", OTHER) == [b"ok\n"]
    assert endpoint.receive(b"hello", OTHER) == []
    assert endpoint.after(0.21) == [b"hel"]
    assert endpoint.struck == {Kind.TRUNCATE: 1, Kind.DELAY: 1, Kind.LOSS: 1}


def test_the_datagrams_of_a_source_are_counted_from_1() -> None:
    """The same request gets the same, whoever has asked before."""
    endpoint = requested(seed=5)
    found = []
    for port in range(50_000, 50_003):
        source = ("127.0.0.1", port)
        assert endpoint.receive(b"loss=0.5", source) == [b"ok\n"]
        found.append([len(endpoint.receive(b"x", source)) for _ in range(40)])
    expected = PacketDecider(Faults((Fault(Kind.LOSS, 0.5),), 5)).predict(Arrival(1) for _ in range(40))
    assert found == [[int(not verdict.lost) for verdict in expected]] * 3


def test_choosing_nothing() -> None:
    endpoint = requested()
    assert endpoint.receive(b"\n") == [b"ok\n"]
    assert endpoint.receive(b"hello") == [b"hello"]
    assert endpoint.receive(b"", OTHER) == [b""]
    assert endpoint.receive(b"hello", OTHER) == [b"hello"]


@pytest.mark.parametrize("request_", [b"x", b"loss=2", b"latency=200ms", b"\xff" * 100, bytes(2000)])
def test_an_answer_is_one_line_and_not_much_longer(request_: bytes) -> None:
    endpoint = requested()
    (answer,) = endpoint.receive(request_)
    assert len(answer) <= 3 * len(request_)
    assert b"\n" not in answer[:-1]
    assert answer.isascii()
    (again,) = endpoint.receive(request_)
    assert again == answer  # it is a request again


def test_what_is_wrong_is_said() -> None:
    endpoint = requested(allowed=frozenset({Kind.LOSS}))
    (answer,) = endpoint.receive(b"delay=200ms             ")
    assert answer == b"error: delay: is not allowed here; expected loss\n"
    (answer,) = endpoint.receive(b" " * 513)
    assert answer == b"error: a request has at most 512 bytes\n"


def test_who_is_not_admitted_cannot_ask() -> None:
    endpoint = requested(limits=Limits(rate=1, burst=2, rate_exempt=()))
    assert [len(endpoint.receive(b"nonsense")) for _ in range(4)] == [1, 1, 0, 0]
    assert endpoint.receive(b"loss=1", ("127.0.0.1", 7)) == []
    endpoint.transport.sent_to_many = True
    assert endpoint.receive(b"loss=1") == []


@pytest.mark.parametrize("spoofed", [b"who are you?", b"x", b"loss=2", bytes(600)])
def test_an_answer_that_an_echo_server_sends_back_is_not_answered(spoofed: bytes) -> None:
    endpoint = requested()
    answers = 0
    found = endpoint.receive(spoofed)
    while found:
        answers += 1
        assert answers < 5
        found = endpoint.receive(found[0])


def test_a_server_that_complains_of_our_answers_is_answered_a_few_times_only() -> None:
    endpoint = requested()
    answers = [endpoint.receive(b"unknown command") for _ in range(100)]
    assert 0 < answers.index([]) < 100
    assert endpoint.policy.refusals[Reason.LOOP] >= 1


def test_a_silent_source_is_forgotten() -> None:
    endpoint = requested()
    assert endpoint.receive(b"truncate=1") == [b"ok\n"]
    for _ in range(3):
        endpoint.clock.advance(FORGOTTEN_AFTER - 1)
        assert endpoint.receive(b"truncate=2") == [b"t"]
    endpoint.clock.advance(FORGOTTEN_AFTER + 1)
    assert endpoint.receive(b"truncate=2") == [b"ok\n"]
    assert endpoint.receive(b"hello") == [b"he"]


def test_the_number_of_sources_is_bounded() -> None:
    endpoint = requested(most=3)
    sources = [("127.0.0.1", port) for port in range(50_000, 50_004)]
    for source in sources[:3]:
        endpoint.receive(b"truncate=1", source)
    endpoint.receive(b"hello", sources[0])
    endpoint.receive(b"truncate=1", sources[3])  # the one that has been silent for longest is forgotten
    found = [endpoint.receive(b"hello", source) for source in (sources[0], sources[2], sources[3])]
    assert found == [[b"h"]] * 3
    assert endpoint.receive(b"truncate=2", sources[1]) == [b"ok\n"]


def test_where_nothing_can_be_requested_any_more_sources_are_forgotten() -> None:
    endpoint = requested()
    endpoint.receive(b"truncate=1")
    endpoint.faults.faults = Faults((Fault(Kind.TRUNCATE, 2),))
    assert endpoint.receive(b"hello") == [b"he"]


# The log.


def test_the_log() -> None:
    endpoint = Endpoint(Fault(Kind.LOSS, 1.0, every=2), Fault(Kind.TRUNCATE, 3))
    with capturedLogs() as events:
        for _ in range(4):
            endpoint.receive(b"hello")
    said = [(event["log_level"], formatEvent(event)) for event in events]
    assert said == [
        (LogLevel.info, "faults from datagram 1: loss=1 every=2; truncate=3B seed=0"),
        (LogLevel.debug, "faults: datagram 1: truncated to 3"),
        (LogLevel.info, "faults so far: truncate 1"),
        (LogLevel.debug, "faults: datagram 2: lost"),
        (LogLevel.debug, "faults: datagram 3: truncated to 3"),
        (LogLevel.debug, "faults: datagram 4: lost"),
    ]
    assert {(event["endpoint"], event.get("peer")) for event in events} == {
        ("udp", "127.0.0.1:40000"),
        ("udp", None),
    }
    endpoint.clock.advance(1.0)
    with capturedLogs() as events:
        endpoint.receive(b"hello")
    assert formatEvent(events[-1]) == "faults so far: truncate 3, loss 2"
