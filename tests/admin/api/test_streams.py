"""Streams of events in memory: silence, clients that take nothing, and suites that other programs run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from suite.admin.api import changing
from suite.admin.api.watching import BEGINNING, COMMENT, COMMENT_INTERVAL, EVENTS_PER_TURN, PATIENCE, Stream
from suite.admin.budget import Budget, Queue
from suite.admin.events import Events, Filter
from suite.admin.exchange import Call, Problem
from tests.helpers import now


class Request:
    """A request that is answered by a stream."""

    def __init__(self) -> None:
        self.sent = b""
        self.writes: list[bytes] = []
        self.finished = self.aborted = False
        self.producer: Any = None
        self.channel = SimpleNamespace(abort=self.abort)

    def write(self, data: bytes) -> None:
        assert not self.finished
        self.sent += data
        self.writes.append(data)

    def abort(self) -> None:
        self.aborted = True

    def finish(self) -> None:
        self.finished = True

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None


class Watched:
    """A stream, and what happens."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.events = Events(self.clock)
        queue = Queue(self.clock, Budget(self.clock))
        site: Any = SimpleNamespace(
            events=self.events,
            factory=SimpleNamespace(queue=queue),
            suite=SimpleNamespace(reactor=self.clock),
        )
        self.request = Request()
        self.stream = Stream(site, self.request, Filter(), None)
        self.clock.advance(0)

    def happen(self, count: int = 1) -> None:
        for _ in range(count):
            event = {"log_time": 0.0, "log_namespace": "suite", "log_level": LogLevel.info, "log_format": "x"}
            self.events._note(event)

    def said(self) -> bytes:
        said, self.request.sent = self.request.sent, b""
        return said


def test_where_nothing_happens_there_are_comments() -> None:
    watched = Watched()
    assert watched.said() == BEGINNING
    watched.clock.pump([COMMENT_INTERVAL] * 2)
    assert watched.said() == COMMENT * 2
    watched.clock.advance(COMMENT_INTERVAL - 1)
    watched.happen()
    watched.clock.pump([0, 2])
    assert watched.said().count(b"data: ") == 1  # and no comment so soon
    watched.clock.advance(COMMENT_INTERVAL - 2)
    assert watched.said() == COMMENT


def test_much_is_sent_in_turns() -> None:
    watched = Watched()
    watched.request.writes.clear()
    watched.happen(2 * EVENTS_PER_TURN + 20)
    watched.clock.advance(0)
    counts = [data.count(b"data: ") for data in watched.request.writes]
    assert counts == [EVENTS_PER_TURN, EVENTS_PER_TURN, 20]


def test_a_client_that_takes_nothing_is_disconnected_and_one_that_does_is_not() -> None:
    watched = Watched()
    watched.said()
    watched.request.producer.pauseProducing()
    watched.happen()
    watched.clock.advance(PATIENCE - 1)
    assert (watched.said(), watched.request.aborted) == (b"", False)
    watched.request.producer.resumeProducing()
    watched.clock.advance(0)
    assert watched.said().count(b"data: ") == 1
    watched.request.producer.pauseProducing()
    watched.clock.advance(PATIENCE)
    assert watched.request.aborted


def test_what_is_waiting_is_sent_before_the_end() -> None:
    watched = Watched()
    watched.said()
    watched.happen(3)
    watched.events.stop()
    assert watched.said().count(b"data: ") == 3
    assert watched.request.finished
    assert watched.stream.ended.called
    watched.clock.advance(PATIENCE)
    assert watched.said() == b""
    assert not watched.clock.getDelayedCalls()


def test_nothing_is_left_behind_by_a_client_that_has_gone() -> None:
    watched = Watched()
    watched.stream.stop()
    watched.request.producer.pauseProducing()
    watched.request.producer.resumeProducing()
    watched.happen()
    watched.clock.advance(0)
    assert watched.said() == BEGINNING
    assert (len(watched.events), watched.clock.getDelayedCalls()) == (0, [])


@pytest.mark.parametrize("what", [changing.reload, changing.drain])
def test_what_another_program_runs_is_neither_reloaded_nor_ended(what: Any) -> None:
    site: Any = SimpleNamespace(suite=SimpleNamespace(operations=None))
    call = Call("POST", "/", {}, {}, b"", "", True, None)
    with pytest.raises(Problem) as caught:
        now(what(site, call))
    assert caught.value.status == 501
