"""One connection of a load, with the test as the other side."""

from __future__ import annotations

import socket
from time import monotonic_ns
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from suite.client.dial.addresses import Address
from suite.client.dial.failures import TargetError
from suite.client.load.datagrams import LoadDatagrams
from suite.client.load.schedule import Rate, Schedule
from suite.client.load.stats import AddressStats
from suite.client.load.streams import LoadStream
from suite.client.load.traffic import CHUNK, NO_WINDOW, PERIOD, LoadConnection, Traffic
from suite.engine.linux.timerfd import start_timer
from tests.helpers import Watcher
from tests.running import PATIENCE

SECOND = 1_000_000_000


class Wire:
    """A transport that keeps written bytes, and has room for *room* of them.

    :ivar sent: bytes written but not yet read by the other side.
    """

    def __init__(self, room: int = 2**40) -> None:
        self.sent = bytearray()
        self.room = room
        self.producer: Any = None
        self.aborted = self.closed = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.sent += data
        if len(self.sent) > self.room:
            self.producer.pauseProducing()

    def take(self, count: int | None = None) -> bytes:
        """Remove and return the oldest bytes, as if the other side had read them."""
        count = len(self.sent) if count is None else count
        data = bytes(self.sent[:count])
        del self.sent[:count]
        return data

    def abortConnection(self) -> None:
        self.aborted = True

    def loseConnection(self) -> None:
        self.closed = True


class OneStream:
    """A `LoadStream` on a `Wire`."""

    def __init__(
        self,
        size: int = 100,
        *,
        window: int | None = None,
        rate: float | None = None,
        index: int = 0,
        room: int = 2**40,
    ) -> None:
        self.errors: list[TargetError] = []
        schedule = None if rate is None else Schedule(Rate(rate, rate), 1_000_000)
        self.stats = AddressStats("here")
        if window is None:
            window = 1 if rate is None else NO_WINDOW
        self.traffic = Traffic(None, size, window, schedule, SECOND, self.ended)
        self.stream = LoadStream(self.traffic, self.stats, index)
        self.wire = Wire(room)
        self.stream.makeConnection(cast(Any, self.wire))

    def ended(self, _: LoadConnection, error: TargetError) -> None:
        self.errors.append(error)

    def echo(self, count: int | None = None) -> bytes:
        """Echo some of the sent bytes; return them."""
        data = self.wire.take(count)
        self.stream.dataReceived(data)
        return data

    @property
    def answered(self) -> int:
        return len(self.stats.latencies)


def test_a_closed_loop_sends_the_next_message_when_one_is_answered() -> None:
    one = OneStream()
    one.stream.add(1, 0)
    seen = [one.echo() for _ in range(5)]
    assert [len(message) for message in seen] == [100] * 5
    assert len(set(seen)) == 5, "messages differ, so that none can stand in for another"
    assert one.answered == 5
    assert one.stream.unanswered == 1


def test_a_window_of_messages_is_on_the_way_at_once() -> None:
    one = OneStream(window=7)
    one.stream.add(7, 0)
    assert len(one.wire.sent) == 700
    one.echo(250)
    assert one.answered == 2
    assert len(one.wire.sent) == 450 + 200
    one.echo(50)
    assert one.answered == 3
    assert one.stream.unanswered == 7


@given(
    st.integers(1, 3000), st.integers(1, 20), st.lists(st.integers(1, 10_000), max_size=30), st.integers(0, 9)
)
def test_whatever_the_pieces_every_message_is_counted_once(
    size: int, window: int, pieces: list[int], index: int
) -> None:
    one = OneStream(size, window=window, index=index)
    one.stream.add(window, 0)
    echoed = 0
    for piece in pieces:
        echoed += len(one.echo(piece))
    assert one.answered == echoed // size
    assert len(one.wire.sent) + echoed == (one.answered + window) * size
    assert not one.errors


@settings(max_examples=40)
@given(st.integers(1, 200_000), st.integers(0, 5 * PERIOD), st.integers(1, 255), st.integers(0, 9))
def test_one_wrong_byte_is_found_and_its_place_told(size: int, place: int, flip: int, index: int) -> None:
    one = OneStream(size, window=2, index=index)
    one.stream.add(2, 0)
    before = 0
    while before + min(len(one.wire.sent), CHUNK) <= place:
        before += len(one.echo(CHUNK))
    data = bytearray(one.wire.take(CHUNK))
    data[place - before] ^= flip
    one.stream.dataReceived(bytes(data))
    (error,) = one.errors
    assert error.word == "mismatch"
    assert error.facts["offset"] == place
    assert one.wire.aborted
    assert not one.stream.open


@pytest.mark.parametrize("first", [40, 100, 130])
def test_more_than_was_sent_is_a_mismatch(first: int) -> None:
    one = OneStream()
    one.stream.add(1, 0)
    one.stream.wind_down()
    one.stream.dataReceived(one.traffic.pattern[:first])
    if not one.errors:
        one.stream.dataReceived(one.traffic.pattern[first:101])
    assert [str(error) for error in one.errors] == ["mismatch: after byte 100: more came back than was sent"]


def test_what_comes_before_anything_was_sent_is_a_mismatch() -> None:
    one = OneStream()
    one.stream.dataReceived(one.traffic.pattern[:1])
    assert one.errors[0].detail == "after byte 0: more came back than was sent"


def test_with_a_rate_latency_counts_from_when_a_message_was_due() -> None:
    """Four messages are sent late, at once: each latency counts from when the message was due."""
    one = OneStream(rate=10)
    one.stream.schedule(1000 * SECOND, 0, 1)
    one.stream.add(4, 0)
    assert list(one.stream._in_flight) == [1000 * SECOND + n * SECOND // 10 for n in range(4)]


def test_lanes_take_turns_in_the_schedule() -> None:
    due = []
    for turn in range(3):
        one = OneStream(rate=10)
        one.stream.schedule(0, turn, 3)
        one.stream.add(2, 0)
        due += list(one.stream._in_flight)
    assert sorted(due) == [n * SECOND // 10 for n in range(6)]


def test_with_a_rate_a_window_holds_messages_back_but_not_their_clock() -> None:
    one = OneStream(rate=10, window=2)
    one.stream.schedule(0, 0, 1)
    one.stream.add(5, 0)
    assert len(one.wire.sent) == 200
    assert one.stream.unanswered == 5
    one.echo(100)
    assert len(one.wire.sent) == 200
    assert list(one.stream._in_flight) == [SECOND // 10, 2 * SECOND // 10]


def test_a_full_wire_is_not_written_to_and_a_backlog_costs_no_memory() -> None:
    one = OneStream(1000, rate=1000, room=5000)
    one.stream.schedule(0, 0, 1)
    for _ in range(1000):
        one.stream.add(1000, 0)
    assert len(one.wire.sent) <= 5000 + CHUNK
    assert len(one.stream._in_flight) <= (5000 + CHUNK) // 1000 + 1
    assert one.stream.unanswered == 1_000_000
    before = one.answered
    one.echo()
    one.wire.producer.resumeProducing()
    assert one.answered > before
    assert one.wire.sent


def test_a_message_larger_than_a_chunk_goes_in_pieces() -> None:
    one = OneStream(3 * CHUNK + 17, room=CHUNK // 2)
    one.stream.add(1, 0)
    assert len(one.wire.sent) == CHUNK
    for _ in range(3):
        one.echo()
        assert one.answered == 0
        one.wire.producer.resumeProducing()
    one.echo()
    assert one.answered == 1


def test_after_the_end_a_closed_loop_sends_no_more_and_a_schedule_what_is_due() -> None:
    closed = OneStream(window=3)
    closed.stream.add(3, 0)
    closed.stream.wind_down()
    closed.echo()
    assert (closed.answered, closed.stream.unanswered, len(closed.wire.sent)) == (3, 0, 0)
    paced = OneStream(rate=10, window=1)
    paced.stream.schedule(0, 0, 1)
    paced.stream.add(3, 0)
    paced.stream.wind_down()
    for _ in range(3):
        paced.echo()
    assert (paced.answered, paced.stream.unanswered) == (3, 0)


def test_an_end_that_comes_too_early_has_a_word() -> None:
    one = OneStream(window=5)
    one.stream.add(5, 0)
    one.stream.connectionLost(Failure(ConnectionDone()))
    (error,) = one.errors
    assert str(error) == "closed: by the other side, with 5 messages unanswered"
    assert one.stream.closed.called


def test_datagrams_wait_while_the_kernel_takes_no_more() -> None:
    reactor = Watcher()
    errors: list[TargetError] = []
    stats = AddressStats("here")
    traffic = Traffic(reactor, 100, 4, None, SECOND, lambda _, error: errors.append(error))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        datagrams = LoadDatagrams(traffic, stats, 0, Address(socket.AF_INET, server.getsockname()))
        assert datagrams in reactor.readers
        real, full = datagrams._socket, Mock()
        full.send.side_effect = BlockingIOError
        datagrams._socket = full
        datagrams.add(4, 0)
        assert (datagrams.waiting, datagrams.unanswered) == (4, 4)
        assert datagrams in reactor.writers
        datagrams.add(0, 0)
        assert full.send.call_count == 1, "not before there is room"
        datagrams._socket = real
        datagrams.doWrite()
        assert datagrams not in reactor.writers
        assert (datagrams.waiting, datagrams.unanswered) == (0, 4)
        assert {len(server.recv(1000)) for _ in range(4)} == {100}
        datagrams.expire(monotonic_ns() + 2 * SECOND)
        assert stats.lost == 4
        stats.forget()
        datagrams.begin_measuring()
        server.sendto(datagrams._datagram(0), datagrams._socket.getsockname())
        datagrams.doRead()
        assert (stats.lost, stats.late, stats.wrong) == (0, 0, []), "late, and of the warm-up"
        datagrams.close()
    assert not reactor.readers
    assert not errors


def test_lost_datagrams_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes later than it is remembered is neither late nor a mismatch."""
    monkeypatch.setattr("suite.client.load.datagrams.MAX_REMEMBERED", 3)
    stats = AddressStats("here")
    traffic = Traffic(Watcher(), 100, 5, None, SECOND, lambda *_: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        datagrams = LoadDatagrams(traffic, stats, 0, Address(socket.AF_INET, server.getsockname()))
        datagrams.add(5, 0)
        datagrams.wind_down()
        datagrams.expire(monotonic_ns() + 2 * SECOND)
        for number in range(5):
            server.sendto(datagrams._datagram(number), datagrams._socket.getsockname())
        datagrams.doRead()
        datagrams.close()
    assert (stats.lost, stats.late, stats.wrong) == (5, 3, [])


def test_without_a_kernel_timer_the_reactor_keeps_the_schedule() -> None:
    clock = Clock()
    ticks: list[float] = []
    stop = start_timer(clock, monotonic_ns() + SECOND, SECOND // 10, lambda: ticks.append(clock.seconds()))
    clock.pump([0.5] * 2 + [0.1] * 5)
    assert len(ticks) >= 4
    stop()
    count = len(ticks)
    clock.pump([0.1] * 5)
    assert len(ticks) == count
    start_timer(clock, monotonic_ns() + SECOND, SECOND, lambda: ticks.append(0))()
    clock.advance(5)
    assert len(ticks) == count
    assert not clock.getDelayedCalls()


def test_what_has_ended_is_told_once() -> None:
    one = OneStream()
    one.stream.add(1, 0)
    one.stream.dataReceived(b"\0" * 3 if one.traffic.pattern[:3] != b"\0" * 3 else b"\1" * 3)
    one.stream.connectionLost(Failure(TargetError("reset", "by us")))
    assert [error.word for error in one.errors] == ["mismatch"]


@pytest.mark.parametrize("answered", [True, False])
def test_closing_is_gentle_unless_something_is_on_the_way(*, answered: bool) -> None:
    one = OneStream()
    one.stream.add(1, 0)
    one.stream.wind_down()
    if answered:
        one.echo()
    one.stream.close()
    one.stream.close()
    assert (one.wire.closed, one.wire.aborted) == (answered, not answered)
    one.stream.connectionLost(Failure(ConnectionDone()))
    assert not one.errors
