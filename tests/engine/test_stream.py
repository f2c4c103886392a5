"""The TLS transport and the classes below it: rare cases with a stub, common ones on a real reactor."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, INegotiated
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from suite import certs
from suite.config.tls import TLS
from suite.echo import Echo, EchoFactory
from suite.endpoints.tls import ContextFactory, server_context
from suite.engine import stream as stream_module
from suite.engine.handshake import LEFT_HANDSHAKE, reason_of
from suite.engine.handshake_records import ALERT, MAX_HELD, HandshakeTooLargeError
from suite.engine.listeners import Listeners
from suite.engine.tls import LINGER, TLSPort, TLSServer
from suite.identities import load_identity
from tests.helpers import Watcher
from tests.running import TLSClient


class StubReactor(Watcher):
    """Records the watched selectables, for reading and for writing."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.callLater = self.clock.callLater


#: A record of a handshake: the shortest ClientHello there can be.
RECORD = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"


#: Two records of 16 KiB each, all of one ClientHello.
LARGE_HELLO = (
    b"\x16\x03\x01\x40\x00\x01\x00\x7f\xfc" + bytes(16_380) + b"\x16\x03\x01\x40\x00" + bytes(16_384)
)


class StubTLS:
    """A scripted OpenSSL connection: each call returns the next value, or raises it if it is an exception."""

    def __init__(self) -> None:
        self.sent = b""
        self.attached = False
        self.taken = b""
        self.flight = b""
        self.handshake: list[Any] = []
        self.received: list[Any] = []
        self.send_results: list[Any] = []
        self.shutdowns: list[Any] = []

    @staticmethod
    def _next(results: list[Any], default: Any) -> Any:
        result = results.pop(0) if results else default
        if isinstance(result, Exception):
            raise result
        return result

    def share_info_callback(self, callback: object) -> None:
        pass

    def get_protocol_version(self) -> int:
        return SSL.TLS1_3_VERSION

    def attach(self, _sock: object) -> None:
        self.attached = True

    def bio_write(self, data: bytes) -> int:
        self.taken += data
        return len(data)

    def output(self) -> bytes:
        data, self.flight = self.flight, b""
        return data

    def do_handshake(self) -> None:
        self._next(self.handshake, None)

    def recv(self, _size: int) -> bytes:
        data: bytes = self._next(self.received, SSL.WantReadError())
        return data

    def send(self, data: memoryview) -> int:
        count: int = min(self._next(self.send_results, len(data)), len(data))
        self.sent += bytes(data[:count])
        return count

    def shutdown(self) -> bool:
        done: bool = self._next(self.shutdowns, False)
        return done


class Recorder(Protocol):
    """Records the calls of the transport."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Failure | None = None
        self.paused: list[bool] = []
        self.events: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = Failure(main.CONNECTION_DONE)) -> None:  # noqa: B008
        self.lost = reason

    def lost_because(self, error: type[Exception]) -> bool:
        return self.lost is not None and self.lost.check(error) is not None

    def pauseProducing(self) -> None:
        self.paused.append(True)

    def resumeProducing(self) -> None:
        self.paused.append(False)

    def stopProducing(self) -> None:
        pass


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class HalfCloseable(Recorder):
    """Records the ends of both sides, too."""

    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")

    def handshakeCompleted(self) -> None:
        self.events.append("handshake")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> SSL.Context:
    directory = tmp_path_factory.mktemp("certs")
    certs.mint(directory)
    return context_of(directory)


def context_of(directory: Path, tls: TLS | None = None) -> SSL.Context:
    identity = load_identity(directory / "server.pem", directory / "server.key")
    return server_context(identity, tls or TLS(), session_id="test")


class TLSFixture:
    """A transport between a protocol and a stub."""

    def __init__(self, context: SSL.Context, protocol: Recorder, *, established: bool = True) -> None:
        self.reactor = StubReactor()
        self.protocol = protocol
        self.peer, ours = socket.socketpair()
        self.peer.setblocking(False)
        port = TLSPort(0, Factory(), ContextFactory(context), 5, "127.0.0.1", self.reactor)
        self.transport = TLSServer(ours, protocol, ("127.0.0.1", 4711), port, 0, self.reactor)
        self.tls = StubTLS()
        self.transport._connection = self.tls  # type: ignore[assignment]
        protocol.makeConnection(self.transport)
        if established:
            self.shake_hands()

    def shake_hands(self) -> None:
        """Let the peer send a record of its handshake, which completes it unless the stub says otherwise."""
        self.peer.send(RECORD)
        assert self.transport.doRead() is None

    def read_all(self) -> Any:
        """Read while there is anything to read, as on a reactor; return why that ended, if it did."""
        while select.select([self.transport.socket], [], [], 0)[0]:
            if (why := self.transport.doRead()) is not None:
                return why
        return None

    def reading(self) -> bool:
        return self.transport in self.reactor.readers

    def writing(self) -> bool:
        return self.transport in self.reactor.writers

    def close(self) -> None:
        self.transport.connectionLost(Failure(main.CONNECTION_DONE))
        self.peer.close()


@pytest.fixture
def make_tls(context: SSL.Context) -> Iterator[Callable[..., TLSFixture]]:
    built = []

    def build(protocol: Recorder | None = None, *, established: bool = True) -> TLSFixture:
        built.append(TLSFixture(context, protocol or HalfCloseable(), established=established))
        return built[-1]

    yield build
    for one in built:
        one.close()


# Writing.


def test_what_the_kernel_takes_at_once_never_goes_round_the_reactor(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.transport.write(b"hola")
    assert fixture.tls.sent == b"hola"
    assert not fixture.writing()


def test_what_the_kernel_refuses_follows_when_it_can_and_the_producer_waits(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.transport.registerProducer(fixture.protocol, True)
    fixture.tls.send_results = [2, SSL.WantWriteError()]
    fixture.transport.writeSequence([b"ho", b"la"])
    assert (fixture.tls.sent, fixture.writing(), fixture.protocol.paused) == (b"ho", True, [True])
    fixture.transport.write(b" mundo")
    assert fixture.tls.sent == b"ho", "in order"
    fixture.tls.send_results = [SSL.WantWriteError()]
    assert fixture.transport.doWrite() is None
    assert fixture.protocol.paused == [True]
    assert fixture.transport.doWrite() is None
    assert (fixture.tls.sent, fixture.writing(), fixture.protocol.paused) == (
        b"hola mundo",
        False,
        [True, False],
    )


def test_a_large_buffer_is_handed_over_in_limited_pieces(
    make_tls: Callable[..., TLSFixture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "SEND_LIMIT", 3)
    fixture = make_tls()
    fixture.tls.send_results = [SSL.WantWriteError()]
    fixture.transport.write(b"hola mundo")
    assert fixture.transport.doWrite() is None
    assert fixture.tls.sent == b"hola mundo"


def test_an_error_of_a_first_write_is_left_for_the_reactor_to_meet(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.tls.send_results = [SSL.SysCallError(32, "EPIPE"), SSL.SysCallError(32, "EPIPE")]
    fixture.transport.write(b"hola")
    assert fixture.writing()
    assert fixture.transport.doWrite() is main.CONNECTION_LOST


def test_nothing_is_written_before_the_handshake_is_over(make_tls: Callable[..., TLSFixture]) -> None:
    fixture = make_tls(established=False)
    fixture.transport.write(b"hola")
    assert (fixture.tls.sent, fixture.writing()) == (b"", False), (
        "a writable socket would wake us for nothing"
    )
    fixture.shake_hands()
    assert fixture.writing()
    assert fixture.transport.doWrite() is None
    assert fixture.tls.sent == b"hola"
    assert fixture.protocol.events == ["handshake"]


def test_a_pull_producer_is_asked_whenever_there_is_room(make_tls: Callable[..., TLSFixture]) -> None:
    fixture = make_tls()
    fixture.transport.registerProducer(fixture.protocol, False)
    assert fixture.protocol.paused == [False]
    fixture.tls.send_results = [SSL.WantWriteError()]
    fixture.transport.write(b"hola")
    assert fixture.transport.doWrite() is None
    assert fixture.protocol.paused == [False, False]


def test_a_producer_that_registers_while_something_waits_is_paused_at_once(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.tls.send_results = [SSL.WantWriteError()]
    fixture.transport.write(b"hola")
    fixture.transport.registerProducer(fixture.protocol, True)
    assert fixture.protocol.paused == [True]


# Ending.


def test_losing_the_connection_waits_for_the_buffer_then_says_close_notify(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.tls.send_results = [SSL.WantWriteError()]
    fixture.transport.write(b"hola")
    fixture.transport.loseConnection()
    fixture.transport.loseConnection()
    assert not fixture.reading()
    fixture.tls.shutdowns = [SSL.WantWriteError(), False]
    assert fixture.transport.doWrite() is None
    assert (fixture.tls.sent, fixture.writing()) == (b"hola", True)
    assert fixture.transport.doWrite() is None
    assert fixture.tls.shutdowns == []
    assert fixture.peer.recv(1) == b"", "FIN"


def test_after_our_end_what_the_peer_still_says_is_dropped_until_its_own(
    make_tls: Callable[..., TLSFixture],
) -> None:
    """Closing before that would reset the connection and lose the bytes sent."""
    fixture = make_tls()
    fixture.transport.loseConnection()
    assert fixture.transport.doWrite() is None
    assert fixture.reading()
    fixture.tls.received = [b"more", SSL.WantReadError(), b"and more", SSL.ZeroReturnError()]
    assert fixture.transport.doRead() is None
    assert not fixture.protocol.lost_because(ConnectionDone)
    assert fixture.transport.doRead() is None
    assert fixture.protocol.data == b""
    assert fixture.protocol.lost_because(ConnectionDone)
    assert fixture.reactor.clock.getDelayedCalls() == []


def test_a_peer_that_does_not_end_after_us_is_cut_off(make_tls: Callable[..., TLSFixture]) -> None:
    fixture = make_tls()
    fixture.transport.loseConnection()
    fixture.transport.doWrite()
    fixture.reactor.clock.advance(LINGER)
    fixture.reactor.clock.advance(0)
    assert fixture.protocol.lost_because(ConnectionAborted)


def test_a_connection_that_breaks_while_it_ends_is_lost(make_tls: Callable[..., TLSFixture]) -> None:
    fixture = make_tls()
    fixture.transport.loseConnection()
    fixture.tls.shutdowns = [SSL.SysCallError(104, "ECONNRESET")]
    assert fixture.transport.doWrite() is main.CONNECTION_LOST


def test_losing_a_connection_in_the_handshake_needs_no_close_notify(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls(established=False)
    fixture.transport.loseConnection()
    assert fixture.writing()
    fixture.tls.shutdowns = [AssertionError("not now")]
    assert fixture.transport.doWrite() is main.CONNECTION_DONE
    assert fixture.transport.finish_sending() is True


def test_half_closing_ends_our_side_and_leaves_the_other_open(make_tls: Callable[..., TLSFixture]) -> None:
    fixture = make_tls()
    fixture.transport.write(b"hola")
    fixture.transport.loseWriteConnection()
    fixture.transport.write(b"too late")
    assert fixture.transport.doWrite() is None
    assert fixture.tls.sent == b"hola"
    assert fixture.peer.recv(1) == b"", "FIN"
    assert fixture.reading()
    assert fixture.protocol.events == ["handshake", "write lost"]
    fixture.tls.received = [b"adios"]
    fixture.transport.doRead()
    assert fixture.protocol.data == b"adios"
    fixture.transport.loseConnection()
    fixture.tls.shutdowns = [AssertionError("once is enough")]
    fixture.transport.readConnectionLost(Failure(main.CONNECTION_DONE))
    assert fixture.transport.doWrite() is main.CONNECTION_DONE


def test_a_protocol_that_knows_no_half_close_can_still_be_half_closed(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls(Recorder())
    fixture.transport.loseWriteConnection()
    assert fixture.transport.doWrite() is None
    assert fixture.peer.recv(1) == b""


def test_the_peers_end_closes_for_a_protocol_that_knows_no_half_close(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls(Recorder())
    fixture.transport.registerProducer(fixture.protocol, True)
    fixture.tls.send_results = [SSL.WantWriteError()]
    fixture.transport.write(b"hola")
    fixture.transport.readConnectionLost(Failure(main.CONNECTION_DONE))
    assert fixture.transport.doWrite() is main.CONNECTION_DONE
    assert fixture.tls.sent == b"hola"


def test_after_the_peers_end_nothing_can_start_reading_again(make_tls: Callable[..., TLSFixture]) -> None:
    """A socket at end of input stays readable, and would be reported in every turn."""
    fixture = make_tls()
    fixture.tls.received = [SSL.ZeroReturnError()]
    assert fixture.transport.doRead() is main.CONNECTION_DONE
    fixture.transport.stopReading()
    fixture.transport.readConnectionLost(Failure(main.CONNECTION_DONE))
    fixture.transport.resumeProducing()
    assert not fixture.reading()
    assert fixture.protocol.events == ["handshake", "read lost"]


# Reading.


def test_one_connection_takes_a_few_full_records_and_then_lets_others_have_their_turn(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.tls.received = [bytes(16384)] * 100
    assert fixture.transport.doRead() is None
    assert len(fixture.protocol.data) == 8 * 16384


def test_a_protocol_that_pauses_gets_no_further_record(make_tls: Callable[..., TLSFixture]) -> None:
    fixture = make_tls()
    fixture.protocol.dataReceived = lambda data: fixture.transport.pauseProducing()  # type: ignore[method-assign]
    fixture.tls.received = [bytes(16384)] * 2
    assert fixture.transport.doRead() is None
    assert len(fixture.tls.received) == 1


def test_reading_that_must_write_first_goes_on_when_it_can(make_tls: Callable[..., TLSFixture]) -> None:
    """For example, a KeyUpdate that asks for one in return, while the socket is full."""
    fixture = make_tls()
    fixture.tls.received = [SSL.WantWriteError(), SSL.WantWriteError(), b"hola"]
    assert fixture.transport.doRead() is None
    assert fixture.writing()
    assert fixture.transport.doWrite() is None
    assert (fixture.writing(), fixture.protocol.data) == (True, b"")
    assert fixture.transport.doWrite() is None
    assert (fixture.writing(), fixture.protocol.data) == (False, b"hola")


def test_an_end_met_by_reading_that_had_to_write_is_the_peers_end(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.tls.received = [SSL.WantWriteError(), SSL.ZeroReturnError()]
    fixture.transport.doRead()
    assert fixture.transport.doWrite() is None
    assert not fixture.reading()
    assert fixture.protocol.events == ["handshake", "read lost"]


def test_an_error_met_by_reading_that_had_to_write_loses_the_connection(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls()
    fixture.tls.received = [SSL.WantWriteError(), SSL.SysCallError(104, "ECONNRESET")]
    fixture.transport.doRead()
    assert fixture.transport.doWrite() is main.CONNECTION_LOST


def test_a_handshake_is_over_when_its_last_byte_is_sent(make_tls: Callable[..., TLSFixture]) -> None:
    """The application's bytes must not overtake the rest of the handshake."""
    fixture = make_tls(established=False)
    fixture.tls.flight = bytes(2**22)
    fixture.shake_hands()
    assert fixture.tls.taken == RECORD
    assert fixture.transport.doRead() is None
    assert (fixture.writing(), fixture.reading(), fixture.tls.attached) == (True, False, False)
    assert fixture.protocol.events == []
    received = 0
    while received < 2**22:
        received += len(fixture.peer.recv(2**20))
        assert fixture.transport.doWrite() is None
    assert fixture.protocol.events == ["handshake"]
    assert (fixture.writing(), fixture.reading(), fixture.tls.attached) == (False, True, True)


def test_in_the_handshake_no_record_is_taken_before_it_is_complete(
    make_tls: Callable[..., TLSFixture],
) -> None:
    """OpenSSL gets whole records only, and none of what follows the handshake."""
    fixture = make_tls(established=False)
    for byte in RECORD[:-1]:
        fixture.peer.send(bytes([byte]))
        assert fixture.transport.doRead() is None
        assert fixture.tls.taken == b""
    fixture.peer.send(RECORD[-1:] + b"first bytes of the application")
    assert fixture.transport.doRead() is None
    assert fixture.tls.taken == RECORD
    assert fixture.protocol.events == ["handshake"]
    assert fixture.transport.socket.recv(100) == b"first bytes of the application"


def test_a_client_hello_that_is_too_long_is_refused_at_its_first_bytes(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls(established=False)
    fixture.peer.send(b"\x16\x03\x01\x00\x04\x01\x02\x00\x00")
    why = fixture.transport.doRead()
    assert isinstance(why, HandshakeTooLargeError)
    assert fixture.tls.taken == b""
    assert fixture.peer.recv(100) == ALERT


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(b"", main.CONNECTION_DONE), (b"\x16\x03", LEFT_HANDSHAKE), (RECORD, LEFT_HANDSHAKE)],
)
def test_a_peer_that_connects_and_leaves_is_told_from_one_that_breaks_off(
    make_tls: Callable[..., TLSFixture], sent: bytes, expected: Exception
) -> None:
    fixture = make_tls(established=False)
    fixture.tls.handshake = [SSL.WantReadError()]
    fixture.peer.sendall(sent)
    fixture.peer.shutdown(socket.SHUT_WR)
    assert fixture.read_all() is expected


def test_the_handshakes_of_a_port_share_its_budget_and_return_what_they_held(
    make_tls: Callable[..., TLSFixture],
) -> None:
    fixture = make_tls(established=False)
    budget = fixture.transport.server.handshakes
    budget.held = MAX_HELD - len(LARGE_HELLO)
    fixture.tls.handshake = [AssertionError("the message is not complete")]
    fixture.peer.send(LARGE_HELLO[:-1])
    assert fixture.read_all() is None
    fixture.tls.handshake = [None]
    fixture.peer.send(LARGE_HELLO[-1:])
    fixture.tls.flight = bytes(2**22)  # which takes a while to send
    assert fixture.transport.doRead() is None
    assert budget.held == MAX_HELD
    received = 0
    while received < 2**22:
        received += len(fixture.peer.recv(2**20))
        assert fixture.transport.doWrite() is None
    assert fixture.protocol.events == ["handshake"]
    assert budget.held == MAX_HELD - len(LARGE_HELLO)

    other = make_tls(established=False)
    other.transport.server = fixture.transport.server
    budget.held = MAX_HELD - len(LARGE_HELLO) + 1
    other.peer.send(LARGE_HELLO)
    assert isinstance(other.read_all(), HandshakeTooLargeError)
    # Until it is gone, it has its first record.
    assert budget.held == MAX_HELD - len(LARGE_HELLO) + 1 + 5 + 16_384


def test_errors_are_told_in_openssls_words() -> None:
    assert reason_of(SSL.Error([("SSL routines", "", "tlsv1 alert unknown ca")])) == "tlsv1 alert unknown ca"
    assert reason_of(SSL.SysCallError(104, "ECONNRESET")) == "ECONNRESET"
    assert reason_of(ValueError()) == "no reason given"
    assert reason_of(SSL.ZeroReturnError()) == "the peer closed the connection"


# On a real reactor.


class Factories(Factory):
    """Builds protocols, and records them."""

    noisy = False

    def __init__(self, protocol: type[Protocol]) -> None:
        self.protocol = protocol
        self.made: list[Any] = []

    def buildProtocol(self, addr: object) -> Protocol:
        self.made.append(super().buildProtocol(addr))  # type: ignore[arg-type]
        made: Protocol = self.made[-1]
        return made


class Talker(HalfCloseable):
    """Sends the first bytes."""

    def connectionMade(self) -> None:
        self.transport.write(b"first ")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


def the_reactor() -> Any:
    """The reactor of the pytest process."""
    from twisted.internet import reactor

    return reactor


class RealTransportTests(TestCase):
    """TLS with the standard library's client, on whatever reactor the tests run on."""

    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        certs.mint(directory)
        self.ca = str(directory / "ca.pem")
        self.client_files = (str(directory / "client.pem"), str(directory / "client.key"))
        self.context = context_of(directory, TLS(alpn=("h2", "http/1.1"), client_ca=Path(self.ca)))

    def listen(self, factory: Factory) -> int:
        port = Listeners(the_reactor()).listenSSL(
            0, factory, ContextFactory(self.context), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(*self.client_files)
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def test_a_transport_tells_who_and_what_is_on_the_other_side(self) -> None:
        factory = Factories(Echo)
        port = self.listen(factory)

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                client = TLSClient(sock, self.client_context())
                client.sendall(b"hola")
                return client.recv(100)

        facts: dict[str, Any] = {}
        received = Echo.dataReceived

        def look(echo: Echo, data: bytes) -> None:
            transport: Any = echo.transport
            facts["nodelay"] = transport.getTcpNoDelay()
            facts["alpn"] = transport.negotiatedProtocol
            facts["peer"] = transport.getPeerCertificate().to_cryptography().subject.rfc4514_string()
            facts["handle"] = isinstance(transport.getHandle(), SSL.Connection)
            facts["interface"] = INegotiated.providedBy(transport)
            received(echo, data)

        self.patch(Echo, "dataReceived", look)
        assert await deferToThread(talk) == b"hola"
        assert facts == {
            "nodelay": True,
            "alpn": b"http/1.1",
            "peer": "CN=client.localhost,OU=client,O=echo suite",
            "handle": True,
            "interface": True,
        }

    async def test_a_protocol_may_speak_first_and_hang_up_before_the_handshake(self) -> None:
        """No alert can be sent then: the connection just ends."""
        port = self.listen(Factories(Talker))

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                return sock.recv(100)

        assert await deferToThread(talk) == b""

    async def test_an_aborted_connection_is_reset(self) -> None:
        class Aborter(Recorder):
            def dataReceived(self, data: bytes) -> None:
                self.transport.abortConnection()  # type: ignore[union-attr]

        port = self.listen(Factories(Aborter))

        def talk() -> str:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                client = TLSClient(sock, self.client_context())
                client.sendall(b"hola")
                try:
                    client.recv(100)
                except ConnectionResetError:
                    return "reset"
                return "closed"

        assert await deferToThread(talk) == "reset"

    async def test_plain_connections_have_nodelay_too(self) -> None:
        port = the_reactor().listenTCP(0, EchoFactory(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        seen: list[bool] = []
        received = Echo.dataReceived

        def look(echo: Echo, data: bytes) -> None:
            transport: Any = echo.transport
            seen.append(transport.getTcpNoDelay())
            received(echo, data)

        self.patch(Echo, "dataReceived", look)

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", port.getHost().port), 30) as sock:
                sock.sendall(b"hola")
                sock.shutdown(socket.SHUT_WR)
                return sock.recv(100) + sock.recv(100)

        assert await deferToThread(talk) == b"hola"
        assert seen == [True]
