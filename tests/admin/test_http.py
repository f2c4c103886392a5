"""HTTP in memory: what a client may do to the admin interface, and what that costs."""

from __future__ import annotations

import json
import traceback
from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from typing_extensions import override

from suite.admin.budget import BURST, LONGEST_WAIT, SHARE
from suite.admin.exchange import Problem, Response
from suite.admin.http import (
    IDLE_TIME,
    LONGEST_BODY,
    MOST_CONNECTIONS,
    MOST_PER_PEER,
    MOST_UNSENT,
    REQUEST_TIME,
    AdminFactory,
    Channel,
    Request,
)

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


class Transport(StringTransport):
    """A transport that can be stopped, as a port's connections can."""

    reading = True
    aborted = False

    @override
    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    @override
    def unregisterProducer(self) -> None:
        """Again, too, as of Twisted's connections."""
        self.producer = None

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


class Server:
    """An `AdminFactory`, and what it has been asked."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.asked: list[bytes] = []
        self.factory = AdminFactory(self.clock, self.answer)
        #: Seconds that an answer takes.
        self.takes = 0.0
        #: What is answered to a request without a body.
        self.body = b"hello"
        #: The deepest stack on which there was an answer.
        self.deepest = 0
        self.waiting: Deferred[None] | None = None

    async def answer(self, request: Request) -> Response:
        self.asked.append(request.uri)
        self.clock.rightNow += self.takes
        self.deepest = max(self.deepest, len(traceback.extract_stack()))
        if self.waiting is not None:
            await self.waiting
        if request.uri == b"/bug":
            raise ZeroDivisionError
        if request.uri == b"/problem":
            raise Problem(418, "no coffee", {"X-Pot": "tea"}, pot=1)
        body: bytes = cast(Any, request.content).read()
        return Response(200, body or self.body)

    def connect(self, host: str | None = "127.0.0.1") -> Transport | None:
        """A connection from *host*; None: over a UNIX socket. None is returned if it was refused."""
        peer: Any = UNIXAddress(None) if host is None else IPv4Address("TCP", host, 5)
        channel = self.factory.buildProtocol(peer)
        if channel is None:
            return None
        transport = Transport(peerAddress=peer)
        cast(Any, transport).protocol = channel
        channel.makeConnection(transport)
        return transport

    def send(self, transport: Any, data: bytes) -> None:
        transport.protocol.dataReceived(data)

    def ask(self, data: bytes, host: str | None = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the response to *data*, on a connection of its own."""
        transport = self.connect(host)
        self.send(transport, data)
        self.clock.advance(0)
        return parsed(transport)

    def lose(self, transport: Any) -> None:
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        transport.protocol.connectionLost(Failure(ConnectionLost()))


def parsed(transport: Any) -> tuple[int, dict[str, str], bytes]:
    head, _, body = transport.value().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_response(server: Server) -> None:
    status, headers, body = server.ask(GET)
    assert (status, body, headers["content-length"]) == (200, b"hello", "5")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_head_has_the_length_of_what_get_has(server: Server) -> None:
    status, headers, body = server.ask(GET.replace(b"GET", b"HEAD"))
    assert (status, body, headers["content-length"]) == (200, b"", "5")


def test_a_problem_is_a_document(server: Server) -> None:
    status, headers, body = server.ask(GET.replace(b"/ ", b"/problem "))
    assert (status, headers["content-type"], headers["x-pot"]) == (418, "application/problem+json", "tea")
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "I'm a Teapot",
        "status": 418,
        "detail": "no coffee",
        "pot": 1,
    }


def test_a_bug_ends_its_request_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    transport = server.connect()
    server.send(transport, GET.replace(b"/ ", b"/bug "))
    server.clock.advance(0)
    assert parsed(transport)[0] == 500
    assert b"ZeroDivisionError" not in transport.value()  # type: ignore[union-attr]
    transport.clear()  # type: ignore[union-attr]
    server.send(transport, GET)
    server.clock.advance(0)
    assert parsed(transport)[0] == 200


# Bodies.


def test_a_body_arrives_whole(server: Server) -> None:
    data = bytes(range(256)) * (LONGEST_BODY // 256)
    request = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(data)
    assert server.ask(request + data)[2] == data
    chunks = (
        b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:1000], data[1000:])) + b"0\r\n\r\n"
    )
    request = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert server.ask(request + chunks)[2] == data


@pytest.mark.parametrize(
    "request_",
    [
        b"Content-Length: 65537\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n10001\r\n" + bytes(0x10001),
    ],
    ids=["length", "a length for ever", "expect", "chunked"],
)
def test_a_body_that_is_too_long_is_refused_at_once(server: Server, request_: bytes) -> None:
    transport = server.connect()
    server.send(transport, b"POST / HTTP/1.1\r\n" + HOST + request_)
    status, headers, body = parsed(transport)
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body)["detail"] == "the body is longer than 65,536 bytes; expected a shorter one"
    assert transport is not None
    assert transport.disconnecting
    server.clock.advance(0)
    assert not server.asked


@pytest.mark.parametrize(
    "request_",
    [
        GET[:-2] + b"X: " + b"x" * 17_000 + b"\r\n\r\n",
        GET[:-2] + b"X: x\r\n" * 101 + b"\r\n",
        b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["long header", "headers", "long path", "TLS", "no colon", "two lengths", "negative", "smuggling"],
)
def test_what_is_no_request_ends_its_connection(server: Server, request_: bytes) -> None:
    transport = server.connect()
    server.send(transport, request_)
    server.clock.advance(0)
    assert transport is not None
    assert transport.disconnecting
    assert not server.asked
    assert transport.value() in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")


# Time.


def test_a_request_has_a_time_however_many_pieces_it_comes_in(server: Server) -> None:
    transport = server.connect()
    assert transport is not None
    server.clock.advance(IDLE_TIME - 1)
    for byte in GET[: int(REQUEST_TIME)]:
        assert not transport.disconnecting
        server.send(transport, bytes([byte]))
        server.clock.advance(1)
    assert transport.disconnecting
    server.clock.advance(Channel.abortTimeout)
    assert transport.aborted


def test_a_connection_may_be_used_again(server: Server) -> None:
    transport = server.connect()
    assert transport is not None
    for _ in range(3):
        server.send(transport, GET[:-1])
        server.clock.advance(REQUEST_TIME - 1)
        server.send(transport, GET[-1:])
        server.clock.advance(0)
        assert parsed(transport)[0] == 200
        transport.clear()
        server.clock.advance(IDLE_TIME - 1)
        assert not transport.disconnecting
    server.clock.advance(1)
    assert transport.disconnecting


def test_the_second_request_in_one_piece_has_a_time_too(server: Server) -> None:
    transport = server.connect()
    assert transport is not None
    server.send(transport, GET + GET[:-4])
    server.clock.advance(0)
    assert parsed(transport)[0] == 200
    server.clock.advance(REQUEST_TIME)
    assert transport.disconnecting


def test_an_answer_may_take_its_time(server: Server) -> None:
    server.waiting = Deferred()
    transport = server.connect()
    assert transport is not None
    server.send(transport, GET)
    server.clock.pump([IDLE_TIME] * 3)
    assert not transport.disconnecting
    server.waiting.callback(None)
    assert parsed(transport)[0] == 200


def test_answers_do_not_pile_up_for_a_client_that_takes_none(server: Server) -> None:
    transport: Any = server.connect()
    server.send(transport, GET * 3)
    transport.protocol.pauseProducing()  # what has been sent waits in the transport
    for _ in range(5):
        server.clock.advance(0)
    assert len(server.asked) == 1
    transport.protocol.resumeProducing()
    for _ in range(5):
        server.clock.advance(0)
    assert len(server.asked) == 3
    assert transport.value().count(b"hello") == 3


def test_a_client_that_takes_no_answers_has_a_time(server: Server) -> None:
    transport: Any = server.connect()
    server.send(transport, GET * 2)
    transport.protocol.pauseProducing()
    server.clock.pump([0, 0, IDLE_TIME + 1, Channel.abortTimeout])
    assert transport.aborted


def test_so_has_one_that_takes_no_last_answer(server: Server) -> None:
    """It waits for its client like others, and makes room like others."""
    transport: Any = server.connect()
    server.send(transport, GET.replace(b"Host", b"Connection: close\r\nHost"))
    transport.protocol.pauseProducing()
    server.clock.advance(0)
    assert transport.disconnecting  # once all is sent
    assert transport.protocol.since is not None
    server.clock.pump([IDLE_TIME + 1, Channel.abortTimeout])
    assert transport.aborted


def test_no_more_is_read_than_is_kept_while_nothing_is_taken(server: Server) -> None:
    server.waiting = Deferred()
    transport: Any = server.connect()
    server.send(transport, GET)
    server.clock.advance(0)
    transport.protocol.pauseProducing()
    server.send(transport, bytes(100_000))
    assert transport.producerState == "paused"


@pytest.mark.parametrize("name", [b"Accept", b"Authorization", b"Origin"])
def test_a_header_may_have_any_bytes(server: Server, name: bytes) -> None:
    """RFC 9110, section 5.5."""
    found: list[Any] = []

    async def answer(request: Request) -> Response:
        found.append(request.getHeader(name.decode().lower()))
        return Response()

    server.factory.answer = answer
    assert server.ask(GET.replace(b"\r\n\r\n", b"\r\n" + name + b": \xff\xfe\r\n\r\n"))[0] == 200
    assert found == ["\xff\xfe"]


def test_nobody_waits_for_an_answer_whose_client_has_gone(server: Server) -> None:
    server.waiting = Deferred()
    transport = server.connect()
    server.send(transport, GET)
    server.clock.advance(0)
    server.lose(transport)
    assert server.waiting.called  # cancelled
    assert not server.factory.open
    assert not server.clock.getDelayedCalls()


def test_a_client_that_has_gone_is_no_bug(server: Server) -> None:
    server.waiting = Deferred()
    transport = server.connect()
    server.send(transport, GET)
    server.clock.advance(0)
    noted: list[Any] = []
    globalLogPublisher.addObserver(noted.append)  # type: ignore[arg-type]  # any callable will do
    server.lose(transport)
    globalLogPublisher.removeObserver(noted.append)  # type: ignore[arg-type]
    assert [event for event in noted if "log_failure" in event] == []


def test_the_end_of_a_client_that_is_being_answered_is_read(server: Server) -> None:
    """A stream of events has no end of its own; one whose client has gone takes the place of another."""
    server.waiting = Deferred()
    watching = server.connect()
    assert watching is not None
    server.send(watching, GET)
    server.clock.advance(0)
    server.takes = 10 * BURST
    server.send(server.connect(), GET)
    server.clock.advance(0)
    server.connect()
    assert [watching.reading] == [False]
    server.clock.advance(LONGEST_WAIT + 0.001)
    assert [watching.reading] == [True]
    server.send(watching, bytes(100_000))  # requests to come, which Twisted keeps; it reads no more then
    watching.stopReading()
    server.factory.check_budget()
    server.factory._go_on()
    assert [watching.reading] == [False]


def test_who_is_being_answered_has_the_answer_before_the_end(server: Server) -> None:
    server.waiting = Deferred()
    asking, idle = server.connect(), server.connect()
    assert asking is not None
    assert idle is not None
    server.send(asking, GET)
    server.clock.advance(0)
    server.factory.stop()
    assert (asking.disconnecting, idle.disconnecting) == (False, True)
    server.waiting.callback(None)
    assert parsed(asking)[2] == b"hello"
    assert asking.disconnecting


# How many.


def test_one_peer_has_its_share(server: Server) -> None:
    first, *others = [server.connect() for _ in range(MOST_PER_PEER)]
    assert first is not None
    server.clock.advance(1)
    assert server.connect() is not None  # in the place of the one that has waited longest
    assert first.aborted
    assert not any(other.aborted for other in others if other is not None)
    assert len(server.factory.open) == MOST_PER_PEER
    assert server.connect("127.0.0.2") is not None
    assert len(server.factory.open) == MOST_PER_PEER + 1
    assert server.factory.refused == 1


def test_who_is_being_answered_makes_no_room(server: Server) -> None:
    server.waiting = Deferred()
    for _ in range(MOST_PER_PEER):
        server.send(server.connect(), GET)
    server.clock.pump([0] * MOST_PER_PEER)
    assert server.connect() is None
    assert server.factory.refused == 1
    assert server.connect("127.0.0.2") is not None


def test_all_together_have_a_limit(server: Server) -> None:
    connections = [server.connect(f"127.0.1.{number}") for number in range(MOST_CONNECTIONS)]
    assert connections[0] is not None
    assert server.connect(None) is not None
    assert connections[0].aborted
    assert len(server.factory.open) == MOST_CONNECTIONS


# The reactor's time.


def test_requests_in_one_piece_are_answered_one_by_one(server: Server) -> None:
    """Not one within the other, and none before everything else has had its turn."""
    transport = server.connect()
    server.send(transport, GET * 400)
    assert not server.asked
    server.clock.advance(0)
    assert len(server.asked) == 400
    assert server.deepest < len(traceback.extract_stack()) + 50


def test_what_is_answered_takes_a_tenth_of_the_time(server: Server) -> None:
    server.takes = 0.01
    transport = server.connect()
    server.send(transport, GET * 100)
    began = server.clock.seconds()
    while len(server.asked) < 100:
        server.clock.advance(0.001)
    # What may be done at once, and then a tenth.
    assert server.clock.seconds() - began == pytest.approx((100 * 0.01 - BURST) / SHARE, rel=0.05)
    assert server.factory.budget.spent == pytest.approx(1.0)


def test_a_probe_waits_neither_for_other_requests_nor_for_long(server: Server) -> None:
    """Envoy's /ready waits for its /stats, and whoever asks gives up."""
    server.factory.urgent = {b"/healthz"}
    server.takes = 3.0
    for _ in range(20):
        server.send(server.connect(), GET)
    server.clock.advance(0)
    assert len(server.asked) == 1
    server.send(server.connect(), GET.replace(b"/ ", b"/healthz?x "))
    server.clock.advance(LONGEST_WAIT)
    server.clock.advance(LONGEST_WAIT)
    assert b"/healthz?x" in server.asked


def test_nobody_waits_for_a_flood_of_probes(server: Server) -> None:
    server.factory.urgent = {b"/healthz"}
    server.send(server.connect(), GET.replace(b"/ ", b"/healthz "))
    for _ in range(20):
        server.send(server.connect(), GET.replace(b"/ ", b"/healthz "))
    server.send(server.connect(), GET)
    server.clock.pump([0] * 3)
    assert b"/" in server.asked


def test_nothing_is_read_or_accepted_while_too_much_has_been_done(server: Server) -> None:
    port = Transport()
    server.factory.ports = [port]
    others = [server.connect() for _ in range(3)]
    server.takes = 10 * BURST
    server.send(others[0], GET)
    server.clock.advance(0)
    server.send(others[1], b"GET")
    assert [each.reading for each in [port, *others] if each is not None] == [False] * 4
    server.clock.advance(server.factory.budget.wait() + 0.001)
    assert [each.reading for each in [port, *others] if each is not None] == [True] * 4


def test_stopping_leaves_nothing_behind(server: Server) -> None:
    server.takes = 10 * BURST
    transports = [server.connect() for _ in range(3)]
    for transport in transports:
        server.send(transport, GET)
    server.clock.advance(0)
    server.factory.stop()
    for transport in transports:
        assert transport is not None
        assert transport.disconnecting
        server.lose(transport)
    assert not server.clock.getDelayedCalls()


def test_what_clients_do_not_take_is_bounded_for_all_of_them_together(server: Server) -> None:
    """Each of many may ask for a large answer, and read nothing of it."""
    for _ in range(3):
        full: Any = server.connect()
        full.unsent = MOST_UNSENT // 4
    server.body = bytes(MOST_UNSENT // 4)
    assert server.ask(GET)[0] == 200
    server.body = bytes(MOST_UNSENT // 4 + 1)
    status, headers, body = server.ask(GET)
    assert (status, headers["retry-after"]) == (503, "5")
    assert json.loads(body)["detail"].startswith("too much of other answers has not been taken")
    server.body = b"small"
    assert server.ask(GET)[2] == b"small"
