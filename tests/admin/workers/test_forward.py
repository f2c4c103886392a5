"""Events on their way from a worker, in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python import threadable

from suite.admin.events import Events, Filter
from suite.admin.workers.forward import DELAY, MOST, Forwarder
from suite.reasons import Reason

log = Logger(namespace="suite.tests")


class Forwarding:
    """A forwarder of worker 3.

    :ivar told: what it has told.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[list[dict[str, Any]], bool, bool]] = []
        self.forwarder = Forwarder(self.clock, 3, lambda *told: self.told.append(told))

    def messages(self) -> list[str]:
        """The messages of all that has been told since it was asked last."""
        told, self.told = self.told, []
        return [event["message"] for events, _, _ in told for event in events]


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forwarding]:
    monkeypatch.setattr(threadable, "ioThread", threading.get_ident())
    found = Forwarding()
    found.forwarder.start()
    yield found
    found.forwarder.stop()


def test_events_leave_together_in_order_and_say_whose_they_are(it: Forwarding) -> None:
    log.info("first")
    it.clock.advance(DELAY / 2)
    log.debug("second", endpoint="tcp", reason=Reason.CLOSED)
    log.error("third")
    Logger(namespace="twisted.web").error("another's")
    assert it.told == []
    it.clock.advance(DELAY / 2)
    [(events, *missing)] = it.told
    assert [(event["worker"], event["level"], event["message"]) for event in events] == [
        (3, "info", "first"),
        (3, "debug", "second"),
        (3, "error", "third"),
    ]
    assert (events[1]["endpoint"], events[1]["reason"]) == ("tcp", "closed")
    assert missing == [False, False]
    assert not it.clock.getDelayedCalls()


def test_of_a_flood_the_last_are_told_and_that_there_were_more(it: Forwarding) -> None:
    for number in range(MOST + 5):
        log.debug("flood {number}", number=number)
    log.info("quiet")
    it.clock.advance(DELAY)
    [(events, debug, others)] = it.told
    assert (debug, others) == (True, False)
    assert [event["message"] for event in events] == [*(f"flood {n}" for n in range(5, MOST + 5)), "quiet"]
    it.told.clear()
    log.debug("after")
    it.clock.advance(DELAY)
    [(events, debug, others)] = it.told
    assert ([event["message"] for event in events], debug, others) == (["after"], False, False)


def test_at_the_end_what_waits_is_told(it: Forwarding) -> None:
    log.info("last")
    it.forwarder.stop()
    assert it.messages() == ["last"]
    log.info("later")
    it.clock.advance(DELAY)
    assert it.messages() == []
    assert not it.clock.getDelayedCalls()
    it.forwarder.start()
    log.info("again")
    it.clock.advance(DELAY)
    assert it.messages() == ["again"]


# In the supervisor.


def test_the_supervisor_has_them_as_its_own() -> None:
    events = Events(Clock())
    reader = events.open(Filter("info", "tcp"), None, lambda: None, lambda: None)
    event = {
        "time": "t",
        "level": "warn",
        "endpoint": "tcp",
        "reason": "per-peer",
        "message": "no",
        "worker": 2,
    }
    events.note_fields(event)
    events.note_fields({**event, "endpoint": "udp"})
    events.note_fields({**event, "level": "debug"})
    assert [entry.document for entry in reader.waiting] == [{"id": reader.waiting[0].number, **event}]
    found, _ = events.since(0, Filter("debug", reason="per-peer"))
    assert [entry.document["level"] for entry in found] == ["warn", "warn", "debug"]


def test_who_watches_is_told_that_some_are_missing() -> None:
    events = Events(Clock())
    woken: list[str] = []
    quiet = events.open(Filter("info"), None, lambda: woken.append("quiet"), lambda: None)
    every = events.open(Filter("debug"), None, lambda: woken.append("every"), lambda: None)
    before = events.last
    events.note_missing(debug=True)
    assert (quiet.missed, every.missed, woken) == (0, None, ["every"])
    assert not events.since(before, Filter("info"))[1]
    assert events.since(before, Filter("debug"))[1]
    assert not events.since(events.last, Filter("debug"))[1]
    events.note_missing(debug=False)
    assert quiet.missed is None
    assert woken == ["every", "quiet", "every"]
