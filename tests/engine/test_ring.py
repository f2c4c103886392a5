"""The ring, driven by hand, on real sockets; and when connections join and leave it."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import main
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from suite.echo import Echo
from suite.engine import ring as ring_module
from suite.engine.interfaces import writes_back
from suite.engine.linux import uring
from suite.engine.linux.uring import BUFFER_SIZE, BUFFERS, COMPLETIONS, ENTER, NotAcceptedError, Ring
from suite.engine.plain import SMALL_READ, PlainStream
from suite.engine.reactor import MIN_EVENTS, RING_RETRY, EngineReactor
from suite.engine.ring import LOOK, MAX_SMALL_TURNS, EchoRing
from suite.engine.unix import UNIXStream
from tests.helpers import Watcher
from tests.running import ON_RING, RunningSuite, read_to_end, running, running_on, wait_until

try:
    Ring().close()
except OSError as problem:
    pytest.skip(f"no io_uring here: {problem}", allow_module_level=True)


class StubReactor(Watcher):
    """Records the watched selectables, and ends connections as a reactor does."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.later: list[Callable[[], object]] = []
        self.ended: list[tuple[object, object]] = []

    def callLater(self, _delay: float, call: Any, *args: Any) -> None:
        self.later.append(lambda: call(*args))

    def disconnect(self, stream: Any, why: Any, _reading: bool) -> None:
        self.ended.append((stream, why))
        stream.connectionLost(Failure(why))


class RingFixture:
    """A ring, with connections on it.

    :ivar peers: the other ends of the connections.
    """

    def __init__(self) -> None:
        self.reactor = StubReactor()
        self.ring = EchoRing(self.reactor.disconnect, self.reactor.clock.callLater)
        self.streams: list[PlainStream] = []
        self.peers: list[socket.socket] = []

    def connect(
        self, protocol: Protocol | None = None, *, tcp: bool = False
    ) -> tuple[PlainStream, socket.socket]:
        """Make another connection, and let it join the ring."""
        protocol = protocol or Echo()
        stream: PlainStream
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as server:
                peer = socket.create_connection(server.getsockname())
                ours, address = server.accept()
            stream = PlainStream(ours, protocol, address, None, 0, self.reactor)
        else:
            ours, peer = socket.socketpair()
            stream = UNIXStream(ours, protocol, ("", None), None, 0, self.reactor)
        peer.settimeout(10)
        self.streams.append(stream)
        self.peers.append(peer)
        protocol.makeConnection(stream)
        stream.join_ring(self.ring)
        assert stream not in self.reactor.readers
        return stream, peer

    def close(self) -> None:
        self.ring.close()
        for peer in self.peers:
            peer.close()
        for stream in self.streams:
            if stream.connected:
                stream.connectionLost(Failure(main.CONNECTION_DONE))


@pytest.fixture
def fixture() -> Iterator[RingFixture]:
    fixture = RingFixture()
    yield fixture
    fixture.close()


def test_a_crowd_is_echoed_at_once(fixture: RingFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2 * MIN_EVENTS):
        fixture.connect()
    monkeypatch.setattr(fixture.ring, "_take_apart", pytest.fail)
    for number in range(3):
        for index, peer in enumerate(fixture.peers):
            peer.send(b"%d of %d" % (number, index))
        fixture.ring.doRead()
        for index, peer in enumerate(fixture.peers):
            assert peer.recv(100) == b"%d of %d" % (number, index)
    assert [stream.protocol.received for stream in fixture.streams[:2]] == [18, 18]  # type: ignore[attr-defined]


def test_two_messages_of_one_come_back_in_order(fixture: RingFixture) -> None:
    for _ in range(MIN_EVENTS):
        fixture.connect()
    for word in (b"one", b"two"):
        for peer in fixture.peers:
            peer.send(word)
        fixture.ring._ring.enter(0)
    assert fixture.ring._ring.completed() == 2 * MIN_EVENTS
    fixture.ring.doRead()
    assert [peer.recv(100) for peer in fixture.peers] == [b"onetwo"] * MIN_EVENTS


def test_more_messages_than_buffers(fixture: RingFixture) -> None:
    count = BUFFERS + 50
    for _ in range(count):
        fixture.connect()
    for index, peer in enumerate(fixture.peers):
        peer.send(b"%d" % index)
    for _ in range(100):
        fixture.ring.doRead()
        for stream in fixture.streams:
            if stream in fixture.reactor.readers:  # there was no buffer for it
                stream.doRead()
    assert [peer.recv(100) for peer in fixture.peers] == [b"%d" % index for index in range(count)]


def test_around_every_end(fixture: RingFixture) -> None:
    """The queues of entries, buffers and completions all wrap around."""
    for _ in range(7):
        fixture.connect()
    for number in range(COMPLETIONS // 7 + 100):
        for index, peer in enumerate(fixture.peers):
            peer.send(b"%d of %d" % (number, index))
        fixture.ring.doRead()
        assert [peer.recv(100) for peer in fixture.peers] == [
            b"%d of %d" % (number, index) for index in range(7)
        ]


@pytest.mark.parametrize("others", [0, MIN_EVENTS], ids=["alone", "in a crowd"])
def test_who_does_not_read_leaves_and_gets_everything_later(
    fixture: RingFixture, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "MAX_SMALL_TURNS", 10_000)
    for _ in range(others):
        fixture.connect()
    stream, peer = fixture.connect()
    peer.setblocking(False)
    sent = b""
    for number in range(10_000):
        for other in fixture.peers[:others]:
            other.send(b"x")
        message = b"%d " % number * 100
        sent += message[: peer.send(message)]
        fixture.ring.doRead()
        assert [other.recv(100) for other in fixture.peers[:others]] == [b"x"] * others
        if stream.unsent:
            break
    fixture.ring.doRead()
    assert 0 < stream.unsent <= BUFFER_SIZE
    assert stream in fixture.reactor.writers
    assert stream not in fixture.reactor.readers
    assert stream._ring is None
    got = b""
    while stream.unsent or len(got) < len(sent):
        got += peer.recv(1 << 20)
        assert stream.doWrite() is None
    assert got == sent
    assert stream in fixture.reactor.readers, "it is read from again, off the ring"


def test_an_end_of_input_is_read_off_the_ring(fixture: RingFixture) -> None:
    stream, peer = fixture.connect()
    peer.send(b"hola")
    peer.shutdown(socket.SHUT_WR)
    fixture.ring.doRead()
    assert peer.recv(100) == b"hola"
    assert stream in fixture.reactor.readers
    assert stream.doRead() is main.CONNECTION_DONE


def test_a_reset_ends_the_connection(fixture: RingFixture) -> None:
    stream, peer = fixture.connect(tcp=True)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    fixture.ring.doRead()
    assert fixture.reactor.ended == [(stream, main.CONNECTION_LOST)]
    assert fixture.ring.streams == {}


def test_who_sends_much_leaves(fixture: RingFixture) -> None:
    stream, peer = fixture.connect()
    data = os.urandom(BUFFER_SIZE + 10)
    peer.sendall(data)
    fixture.ring.doRead()
    fixture.ring.doRead()
    assert stream in fixture.reactor.readers
    got = peer.recv(BUFFER_SIZE, socket.MSG_WAITALL) + peer.recv(10, socket.MSG_WAITALL)
    assert got == data
    stream.join_ring(fixture.ring)
    assert stream in fixture.reactor.readers, "it has left for good"


def test_who_is_alone_for_long_leaves(fixture: RingFixture) -> None:
    stream, peer = fixture.connect()
    idle, _ = fixture.connect()
    for number in range(MAX_SMALL_TURNS + 1):
        assert stream not in fixture.reactor.readers
        peer.send(b"%d" % number)
        fixture.ring.doRead()
        assert peer.recv(100) == b"%d" % number
    fixture.ring.doRead()
    assert stream in fixture.reactor.readers
    assert idle not in fixture.reactor.readers


def test_who_is_paused_is_not_read_from_until_resumed(fixture: RingFixture) -> None:
    stream, peer = fixture.connect()
    stream.stopReading()
    fixture.ring.doRead()
    peer.send(b"hola")
    fixture.ring.doRead()
    assert stream not in fixture.reactor.readers
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(100)
    stream.startReading()
    stream.doRead()
    assert peer.recv(100) == b"hola"


def test_resumed_before_it_has_left_it_is_read_from_when_it_has(fixture: RingFixture) -> None:
    stream, _ = fixture.connect()
    stream.stopReading()
    stream.startReading()
    assert stream not in fixture.reactor.readers
    fixture.ring.doRead()
    assert stream in fixture.reactor.readers


def test_half_closing_takes_it_off_the_ring(fixture: RingFixture) -> None:
    stream, peer = fixture.connect()
    stream.loseWriteConnection()
    stream.doWrite()
    fixture.ring.doRead()
    assert stream in fixture.reactor.readers
    assert peer.recv(100) == b""


@pytest.mark.parametrize("why", ["abort", "end"])
def test_a_descriptor_is_nobody_elses_before_the_ring_has_let_go_of_it(
    fixture: RingFixture, why: str
) -> None:
    stream, peer = fixture.connect(tcp=True)
    fd = stream.fileno()
    if why == "abort":
        stream.abortConnection()
        fixture.reactor.later.pop()()
    else:
        stream.connectionLost(Failure(main.CONNECTION_DONE))
        assert peer.recv(100) == b""
    os.fstat(fd)
    fixture.ring.doRead()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert fixture.ring.streams == {}
    if why == "abort":
        with pytest.raises(ConnectionResetError):
            peer.recv(100)


def test_what_comes_for_the_dead_is_dropped(fixture: RingFixture) -> None:
    stream, peer = fixture.connect()
    peer.send(b"hola")
    fixture.ring._ring.enter(0)
    stream.connectionLost(Failure(main.CONNECTION_DONE))
    fixture.ring.doRead()
    assert peer.recv(100) == b""
    assert fixture.ring.streams == {}


def test_what_comes_for_the_dead_is_dropped_also_where_few_speak(
    fixture: RingFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "MAX_SMALL_TURNS", 0)
    stream, peer = fixture.connect()
    other, other_peer = fixture.connect()
    peer.send(b"hola")
    fixture.ring._ring.enter(0)
    stream.connectionLost(Failure(main.CONNECTION_DONE))
    stream.stopReading()  # as by a protocol that does not know of its end yet
    fixture.ring.doRead()
    assert set(fixture.ring.streams.values()) <= {other}
    other_peer.send(b"hola")
    fixture.ring.doRead()
    assert other_peer.recv(100) == b"hola"


def test_a_ring_that_closes_lets_go_of_the_dead_and_ends_the_others(fixture: RingFixture) -> None:
    dead, peer = fixture.connect(tcp=True)
    other, _ = fixture.connect()
    fd = dead.fileno()
    dead.connectionLost(Failure(main.CONNECTION_DONE))
    fixture.ring.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert peer.recv(100) == b""
    assert fixture.reactor.ended == [(other, main.CONNECTION_LOST)]
    fixture.ring.close()  # a second time has no effect


def test_a_kernel_that_loses_count_of_buffers_ends_everything(fixture: RingFixture) -> None:
    stream, peer = fixture.connect()
    fixture.ring._next_buffer = 5
    peer.send(b"hola")
    with pytest.raises(RuntimeError, match="buffer 0 before 5"):
        fixture.ring.doRead()
    fixture.ring.connectionLost(Failure(ConnectionLost()))
    assert fixture.reactor.ended == [(stream, main.CONNECTION_LOST)]
    assert fixture.ring.fileno() == -1


def test_a_kernel_that_will_not_have_it_leaves_it_to_the_reactor(fixture: RingFixture) -> None:
    stream, _ = fixture.connect()
    stream.stopReading()
    fixture.ring.doRead()
    stream.startReading()
    fixture.ring.close()
    stream.join_ring(fixture.ring)
    assert stream in fixture.reactor.readers


def test_an_entry_that_the_kernel_refuses_is_not_left_behind(
    fixture: RingFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, peer = fixture.connect()
    before = uring._CALL

    def refuse(number: int, *args: int) -> int:
        uring.ffi.errno = errno.EAGAIN
        return -1

    monkeypatch.setattr(uring, "_CALL", refuse)
    with pytest.raises(NotAcceptedError):
        fixture.ring._ring.receive(stream.fileno())
    with pytest.raises(NotAcceptedError, match="temporarily unavailable"):
        fixture.ring._ring.enter(0)
    monkeypatch.setattr(uring, "_CALL", before)
    peer.send(b"hola")
    fixture.ring.doRead()
    assert peer.recv(100) == b"hola"


def test_who_is_silent_leaves_within_a_second(fixture: RingFixture) -> None:
    silent, _ = fixture.connect()
    busy, peer = fixture.connect()
    for _ in range(3):
        peer.send(b"hola")
        fixture.ring.doRead()
        fixture.reactor.clock.advance(LOOK)
    fixture.ring.doRead()
    assert silent in fixture.reactor.readers
    assert busy not in fixture.reactor.readers
    fixture.reactor.clock.advance(LOOK)
    fixture.ring.doRead()
    assert busy in fixture.reactor.readers
    fixture.reactor.clock.advance(LOOK)
    assert fixture.reactor.clock.getDelayedCalls() == [], "no one to look after"
    assert 2 * LOOK <= 1


def test_an_end_that_comes_with_data_is_seen(fixture: RingFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 6.18 does not tell the ring of it, on a UNIX socket, if it has waited for data first."""
    poll_first = 1 << 0  # IORING_RECVSEND_POLL_FIRST
    monkeypatch.setattr(uring, "MULTISHOT", uring.MULTISHOT | poll_first)
    stream, peer = fixture.connect()
    peer.send(b"hola")
    peer.shutdown(socket.SHUT_WR)
    fixture.ring.doRead()
    assert peer.recv(100) == b"hola"
    for _ in range(2):
        fixture.reactor.clock.advance(LOOK)
    fixture.ring.doRead()
    assert stream in fixture.reactor.readers
    assert stream.doRead() is main.CONNECTION_DONE


class Refusing:
    """``io_uring_enter`` that fails from one call on.

    :param after: the number of calls before.
    :param times: the number of calls that fail.
    :param accepted: with ``EAGAIN``: as many entries are accepted at the first of them, if it has more.
    """

    def __init__(self, after: int, times: int, error: int, accepted: int = 0) -> None:
        self._call = uring._CALL
        self.after, self.times, self.error, self.accepted = after, times, error, accepted

    def __call__(self, number: int, fd: int, *args: int) -> int:
        if number != ENTER:
            result: int = self._call(number, fd, *args)
            return result
        self.after -= 1
        if self.after >= 0 or self.times <= 0:
            return int(self._call(number, fd, *args))
        self.times -= 1
        count, *rest = args
        if self.accepted and count > self.accepted:
            accepted, self.accepted = self.accepted, 0
            return int(self._call(number, fd, accepted, *rest))
        uring.ffi.errno = self.error
        return -1


@pytest.mark.parametrize("times", [1, 5, 1000], ids=["once", "some times", "for ever"])
@pytest.mark.parametrize("accepted", [0, 3], ids=["nothing", "a part"])
@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EAGAIN, errno.EBUSY])
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_call_that_the_kernel_refuses_costs_no_connection_and_no_byte(
    monkeypatch: pytest.MonkeyPatch, tcp: bool, error: int, after: int, accepted: int, times: int
) -> None:
    """Whichever call it is: that which looks for messages, that which sends them, or that which cancels."""
    fixture = RingFixture()
    count = 3 * MIN_EVENTS
    try:
        for _ in range(count):
            fixture.connect(tcp=tcp)
        sent = [b""] * count
        monkeypatch.setattr(uring, "_CALL", Refusing(after, times, error, accepted))
        over = None
        for turn in range(5):
            for index, peer in enumerate(fixture.peers):
                message = b"%d of %d" % (turn, index)
                peer.send(message)
                sent[index] += message
            if over is None:
                over = fixture.ring.doRead()
                if turn == 1 and over is None:
                    fixture.streams[0].stopReading()  # a cancellation
                    fixture.streams[0].startReading()
        over = over or fixture.ring.doRead()
        assert over is main.CONNECTION_LOST
        fixture.ring.connectionLost(Failure(over))  # as the reactor does
        assert fixture.reactor.ended == []
        assert fixture.ring.streams == {}
        for index, (stream, peer) in enumerate(zip(fixture.streams, fixture.peers, strict=True)):
            peer.setblocking(False)
            if stream.unsent:
                assert stream in fixture.reactor.writers
                assert stream.doWrite() is None
            assert stream in fixture.reactor.readers
            got = b""
            while len(got) < len(sent[index]):
                assert stream.doRead() is None
                with contextlib.suppress(BlockingIOError):  # TCP takes a moment, at times
                    got += peer.recv(1000)
            assert got == sent[index]
            assert stream.protocol.received == len(got)  # type: ignore[attr-defined]
    finally:
        monkeypatch.undo()
        fixture.close()


def test_a_system_that_has_refused_gets_another_ring_later() -> None:
    reactor = EngineReactor()
    try:
        ring = reactor._ring_for(MIN_EVENTS)
        assert ring is not None
        ring._failure = OSError(errno.ENOMEM, "Cannot allocate memory")
        ring._ring.wake()
        reactor.doPoll(0)
        assert ring.fileno() == -1
        assert reactor._ring_for(MIN_EVENTS) is None
        (call,) = reactor.getDelayedCalls()
        assert call.getTime() - reactor.seconds() == pytest.approx(RING_RETRY, abs=30)
        call.reset(0)
        reactor.runUntilCurrent()
        assert reactor._ring_for(MIN_EVENTS) is not None
        reactor._drop_ring()
    finally:
        reactor.waker.connectionLost(Failure(main.CONNECTION_DONE))
        reactor._poller.close()


@pytest.mark.parametrize("reason", ["no such call", "an old kernel", "not allowed"])
def test_a_system_without_a_ring_does_without_one(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # or what earlier tests have left is collected meanwhile
    descriptors = os.listdir("/proc/self/fd")
    if reason == "no such call":
        monkeypatch.setattr(uring, "_CALL", None)
    elif reason == "an old kernel":
        monkeypatch.setattr(uring, "NEEDED_FEATURES", 1 << 31)
    else:

        def refuse(number: int, *args: int) -> int:
            uring.ffi.errno = errno.EPERM
            return -1

        monkeypatch.setattr(uring, "_CALL", refuse)
    with pytest.raises(OSError, match=r"no io_uring|too old|not permitted"):
        Ring()
    reactor = EngineReactor()
    try:
        assert reactor._ring_for(MIN_EVENTS) is None
        monkeypatch.undo()
        assert reactor._ring_for(MIN_EVENTS) is None, "no second attempt"
    finally:
        reactor.waker.connectionLost(Failure(main.CONNECTION_DONE))
        reactor._poller.close()
    assert os.listdir("/proc/self/fd") == descriptors


class Buggy(Echo):
    """An echo with a bug, although it is marked as one that only writes back."""

    @writes_back
    def dataReceived(self, data: bytes) -> None:
        raise ValueError("a bug")


class BugTests(SynchronousTestCase):
    """Tests that check the logged errors."""

    def test_a_bug_ends_its_connection_only(self) -> None:
        fixture = RingFixture()
        self.addCleanup(fixture.close)
        buggy, peer = fixture.connect(Buggy())
        _, other = fixture.connect()
        peer.send(b"hola")
        other.send(b"hola")
        fixture.ring.doRead()
        assert other.recv(100) == b"hola"
        assert [stream for stream, _ in fixture.reactor.ended] == [buggy]
        assert len(self.flushLoggedErrors(ValueError)) == 1


def test_only_echoes_join(fixture: RingFixture) -> None:
    ours, peer = socket.socketpair()
    fixture.peers.append(peer)
    stream = UNIXStream(ours, Protocol(), ("", None), None, 0, fixture.reactor)
    fixture.streams.append(stream)
    stream.protocol.makeConnection(stream)
    stream.join_ring(fixture.ring)
    assert stream in fixture.reactor.readers
    assert SMALL_READ == BUFFER_SIZE, "the size of a read off the ring"


def on_ring(suite: RunningSuite) -> bool:
    """Whether the process has a ring."""
    directory = f"/proc/{suite.process.pid}/fd"
    return any("io_uring" in os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory))


def test_a_crowd_gets_a_ring_and_nobody_else_does(tmp_path: Path) -> None:
    with running(tmp_path, '[endpoints]\ntcp = "tcp:0"\nunix = "unix:s"\n') as suite, ExitStack() as stack:
        crowd = [stack.enter_context(suite.connect(name)) for name in ("tcp", "unix") * 30]
        for number in range(20):
            crowd[0].sendall(b"%d" % number)
            assert crowd[0].recv(100) == b"%d" % number
        assert not on_ring(suite)

        def talk() -> bool:
            for index, sock in enumerate(crowd):
                sock.sendall(b"hola %d" % index)
            assert [sock.recv(100) for sock in crowd] == [b"hola %d" % index for index in range(len(crowd))]
            return on_ring(suite)

        wait_until(talk, "there is a ring")
        for _ in range(20):
            talk()
        for number in range(3 * ring_module.MAX_SMALL_TURNS):  # and off it again
            crowd[0].sendall(b"%d" % number)
            assert crowd[0].recv(100) == b"%d" % number
        for sock in crowd:
            sock.sendall(b"adios")
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b"adios"
            assert sock.recv(100) == b""


@pytest.mark.parametrize("count", [3_000, pytest.param(60_000, marks=pytest.mark.stress)])
@pytest.mark.parametrize("endpoint", ["tcp", "unix"])
@pytest.mark.timeout(1200)
def test_whoever_ends_with_its_data_sees_the_end(tmp_path: Path, endpoint: str, count: int) -> None:
    """Some speak before, and so are on the ring; some end with their last message, some with their first."""
    crowd = 60
    with running_on(ON_RING, tmp_path, '[endpoints]\ntcp = "tcp:0"\nunix = "unix:s"\n') as suite:
        for _ in range(count // crowd):
            with ExitStack() as stack:
                socks = [stack.enter_context(suite.connect(endpoint)) for _ in range(crowd)]
                early = socks[::2]
                for sock in early:
                    sock.sendall(b"hola")
                for sock in early:
                    assert sock.recv(4) == b"hola"
                for sock in socks:
                    sock.sendall(b"adios")
                    sock.shutdown(socket.SHUT_WR)
                for sock in socks:
                    assert read_to_end(sock.recv) == b"adios"
