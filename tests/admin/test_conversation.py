"""`suite.admin.conversation` in memory: what a client may send, and what it gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from suite.admin.conversation import (
    LONGEST_REQUEST,
    PATIENCE,
    REQUESTS_PER_TURN,
    Conversation,
    RefusedRequestError,
    answered,
)


class Client:
    """A client in memory.

    :ivar heard: the requests that have been answered.
    :ivar ended: whether the conversation is over.
    """

    def __init__(self, *, full: bool = False, size: int = 0) -> None:
        self.clock = Clock()
        self.heard: list[Mapping[str, Any]] = []
        self.ended = False
        self.size = size
        self.transport = StringTransport()
        self.protocol = Conversation(self.clock, self._answer, self._end, full=full)
        self.protocol.makeConnection(self.transport)

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.heard.append(request)
        if request.get("do") == "fail":
            raise RefusedRequestError("no\nsuch thing")
        return {"echo": request.get("do"), "filling": "x" * self.size}

    def _end(self, _: Conversation) -> None:
        self.ended = True

    def send(self, *lines: object) -> None:
        """Send *lines*: bytes as they are, others as JSON."""
        sent = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        self.protocol.dataReceived(b"".join(line + b"\n" for line in sent))

    def answers(self) -> list[dict[str, Any]]:
        """The answers since the last call."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    @property
    def closing(self) -> bool:
        """Whether this side has ended, once what it has said is sent."""
        return self.transport.disconnecting

    def lose(self) -> None:
        """The connection is lost."""
        self.protocol.connectionLost(Failure(ConnectionResetError()))


def test_one_line_one_answer() -> None:
    client = Client()
    client.send({"do": "a"}, {"do": "b"})
    assert [answer["echo"] for answer in client.answers()] == ["a", "b"]
    assert not client.closing


def test_a_line_may_come_in_pieces() -> None:
    client = Client()
    for byte in b'{"do": "a"}\r\n':
        client.protocol.dataReceived(bytes([byte]))
    assert [answer["echo"] for answer in client.answers()] == ["a"]


def test_a_refusal_is_one_line_and_the_next_request_is_heard() -> None:
    client = Client()
    client.send({"do": "fail"}, {"do": "a"})
    refused, followed = client.answers()
    assert refused == {"ok": False, "kind": "request", "error": r"no\nsuch thing"}
    assert followed["ok"] is True


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0); expected an object on one line"),
        (b"list", "not JSON: Expecting value: line 1 column 1 (char 0); expected an object on one line"),
        (b"[1, 2]", "[1, 2] is not an object; expected an object on one line"),
        (b'"list"', """'list' is not an object; expected an object on one line"""),
        (b'{"do": NaN}', "not JSON: NaN is not a number; expected an object on one line"),
        (b'{"do": 1, "do": 2}', "a key is given twice in one object; expected it once"),
        (b'{"do": "\xff"}', "byte 8 is not UTF-8; expected a JSON object"),
        (b"\xff\xfe{\x00}\x00", "byte 0 is not UTF-8; expected a JSON object"),
        (b"[" * 60_000, "not JSON: "),
        (b"1" * 60_000, "not JSON: "),
    ],
)
def test_what_is_no_request_is_told_so(line: bytes, error: str) -> None:
    client = Client()
    client.send(line, {"do": "a"})
    refused, followed = client.answers()
    assert refused["error"].startswith(error)
    assert refused["kind"] == "request"
    assert followed["echo"] == "a"


@given(st.binary(max_size=200))
def test_whatever_is_on_a_line_has_one_line_for_answer(line: bytes) -> None:
    answer = answered(line, lambda request: {"request": len(request)})
    assert "\n" not in json.dumps(answer)
    assert answer["ok"] or answer["error"].isprintable()


def test_a_client_that_ends_its_side_gets_all_of_its_answers_and_then_the_end() -> None:
    client = Client()
    client.protocol.dataReceived(b'{"do": "a"}\n{"do": "b"}')  # the last line lacks its end
    client.protocol.readConnectionLost()
    assert [answer["echo"] for answer in client.answers()] == ["a", "b"]
    assert client.closing


def test_a_client_that_says_nothing_and_ends_gets_nothing() -> None:
    client = Client()
    client.protocol.readConnectionLost()
    assert client.answers() == []
    assert client.closing


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_ends_it(end: bytes) -> None:
    client = Client()
    client.send({"do": "a"})
    client.protocol.dataReceived(b"x" * (LONGEST_REQUEST + 1) + end)
    _, refused = client.answers()
    assert refused["error"] == "a line is longer than 65,536 bytes; expected shorter ones"
    assert client.closing
    client.send({"do": "b"})
    assert client.answers() == []


def test_a_line_as_long_as_may_be_is_heard() -> None:
    client = Client()
    request = json.dumps({"do": ""}).encode()
    client.send(request.replace(b'""', b'"' + b"x" * (LONGEST_REQUEST - len(request)) + b'"'))
    assert client.answers()[0]["ok"] is True


def test_many_requests_take_turns() -> None:
    client = Client()
    client.send(*[{"do": number} for number in range(3 * REQUESTS_PER_TURN)])
    assert len(client.answers()) == REQUESTS_PER_TURN
    assert client.transport.producerState == "paused"
    client.clock.advance(0)
    assert [answer["echo"] for answer in client.answers()] == [*range(16, 48)]
    assert client.transport.producerState == "producing"


def test_many_requests_are_answered_also_after_a_half_close() -> None:
    client = Client()
    client.send(*[{"do": number} for number in range(2 * REQUESTS_PER_TURN)])
    client.protocol.readConnectionLost()
    assert not client.closing
    client.clock.advance(0)
    assert len(client.answers()) == 2 * REQUESTS_PER_TURN
    assert client.closing


def test_nothing_is_answered_while_answers_are_not_read() -> None:
    client = Client()
    client.send({"do": "a"})
    client.protocol.pauseProducing()  # the transport has enough to send
    client.send({"do": "b"})
    assert client.transport.producerState == "paused"
    assert len(client.heard) == 1
    client.protocol.resumeProducing()
    assert len(client.heard) == 2
    assert client.transport.producerState == "producing"


def test_a_paused_client_that_has_ended_its_side_gets_the_rest_later() -> None:
    client = Client()
    client.protocol.pauseProducing()
    client.send({"do": "a"})
    client.protocol.readConnectionLost()
    assert not client.closing
    client.protocol.resumeProducing()
    assert [answer["echo"] for answer in client.answers()] == ["a"]
    assert client.closing


def test_a_silent_client_is_told_and_left() -> None:
    client = Client()
    client.clock.advance(PATIENCE - 1)
    client.send({"do": "a"})
    client.clock.advance(PATIENCE - 1)
    assert [answer["ok"] for answer in client.answers()] == [True]
    client.protocol.dataReceived(b"{")  # a byte now and then is not a request
    client.clock.advance(1)
    assert client.answers() == [{"ok": False, "kind": "busy", "error": "no request within 60 s"}]
    assert client.closing
    assert not client.transport.disconnected
    client.clock.advance(PATIENCE)
    assert client.transport.disconnected


def test_a_client_that_does_not_read_is_left() -> None:
    client = Client()
    client.send({"do": "a"})
    client.protocol.pauseProducing()
    client.clock.advance(PATIENCE)
    assert client.transport.disconnected


def test_one_client_too_many_is_told_so() -> None:
    client = Client(full=True)
    (refused,) = client.answers()
    assert refused["kind"] == "busy"
    assert "too many connections" in refused["error"]
    assert client.closing
    client.send({"do": "a"})
    assert client.heard == []


def test_a_lost_client_leaves_nothing_behind() -> None:
    client = Client()
    client.send(*[{"do": number} for number in range(2 * REQUESTS_PER_TURN)])
    client.lose()
    assert client.ended
    assert client.clock.getDelayedCalls() == []
    assert len(client.heard) == REQUESTS_PER_TURN


def test_closing_answers_no_more() -> None:
    client = Client()
    client.send(*[{"do": number} for number in range(2 * REQUESTS_PER_TURN)])
    client.protocol.close()
    client.clock.advance(0)
    assert len(client.heard) == REQUESTS_PER_TURN
    assert client.closing
