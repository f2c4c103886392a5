"""Events in memory: what is kept, who is told, and what is lost."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.python import threadable
from twisted.python.failure import Failure

from suite.admin import events as module
from suite.admin.events import KEPT, MOST_WAITING, Entry, Events, Filter, Reader, event_lines, missed_lines
from suite.logs import lines
from suite.logs.lines import json_line

log = Logger(namespace="suite.tests")


class Reactor(Clock):
    """A clock, and what other threads have asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[Any] = []

    def callFromThread(self, *call: Any) -> None:
        self.called.append(call)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Events]:
    monkeypatch.setattr(threadable, "ioThread", threading.get_ident())
    found = Events(Reactor())
    found.start()
    yield found
    found.stop()


def messages(entries: Any) -> list[str]:
    return [entry.document["message"] for entry in entries]


def seen(events: Events, after: int = 0, **wanted: Any) -> list[str]:
    return messages(events.since(after, Filter(**wanted))[0])


def read(reader: Reader) -> list[str]:
    found = messages(reader.waiting)
    reader.waiting.clear()
    return found


def test_an_event_is_its_line_in_the_log_and_an_id(events: Events) -> None:
    noted: list[Any] = []
    events_of_log = noted.append
    from twisted.logger import globalLogPublisher

    globalLogPublisher.addObserver(events_of_log)  # type: ignore[arg-type]  # any callable will do
    log.info("closed: {x!r}", x="a\nb", endpoint="tcp", connection=7, reason="idle", received=3, duration=0.5)
    globalLogPublisher.removeObserver(events_of_log)  # type: ignore[arg-type]  # any callable will do
    (entry,) = events.since(0, Filter())[0]
    assert entry.document == {"id": events.last, **json.loads(json_line(noted[0]))}


def test_ids_grow_also_over_a_restart(events: Events) -> None:
    for _ in range(3):
        log.info("x")
    ids = [entry.number for entry in events.since(0, Filter())[0]]
    assert ids == [events.last - 2, events.last - 1, events.last]
    again = Events(Reactor())
    assert again.last > events.last
    assert again.last < 2**53  # a JavaScript number holds it


def test_others_events_are_not_the_suites(events: Events) -> None:
    Logger(namespace="twisted.web").error("x")
    Logger(namespace="suitable").error("x")
    assert seen(events, level="debug") == []


def test_what_is_asked_for(events: Events) -> None:
    log.debug("a", endpoint="tcp", reason="closed")
    log.info("b", endpoint="tcp", reason="denied")
    log.warn("c", endpoint="udp", reason="denied")
    log.error("d")
    assert seen(events) == ["b", "c", "d"]
    assert seen(events, level="debug") == ["a", "b", "c", "d"]
    assert seen(events, level="warn") == ["c", "d"]
    assert seen(events, endpoint="tcp") == ["b"]
    assert seen(events, reason="denied") == ["b", "c"]
    assert seen(events, endpoint="udp", reason="denied", level="error") == []
    assert seen(events, after=events.last - 1) == ["d"]


def test_ordinary_ends_push_out_no_refusals(events: Events) -> None:
    log.info("refused")
    for number in range(KEPT + 10):
        log.debug("{number}", number=number)
    assert seen(events) == ["refused"]
    found = seen(events, level="debug")
    assert (found[0], found[1], found[-1]) == ("refused", "10", str(KEPT + 9))
    assert len(found) == KEPT + 1


def test_what_nobody_asks_for_is_never_formatted(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    formatted: list[Any] = []
    real = lines.fields_of

    def counted(event: Any) -> Any:
        formatted.append(formatEvent(event))
        return real(event)

    monkeypatch.setattr(module, "fields_of", counted)
    reader = events.open(Filter("warn"), None, lambda: None, lambda: None)
    for _ in range(10):
        log.debug("a", peer="b")
        log.info("c", endpoint="d", received=1)
    assert not formatted
    log.warn("e")
    for _ in range(3):
        assert seen(events, level="warn") == ["e"]
    assert read(reader) == ["e"]
    assert formatted == ["e"]


class Held:
    """Something that a traceback holds."""


def fail() -> None:
    held = Held()
    raise ValueError("why\nso", id(held))


def test_an_exception_is_told_at_once_and_what_it_holds_is_not_kept(events: Events) -> None:
    event: dict[str, Any] = {"log_time": 1.0, "log_namespace": "suite.x", "log_level": LogLevel.error}
    try:
        fail()
    except ValueError as error:
        failed = Entry(1, {**event, "log_format": "it failed", "log_failure": Failure()})
        told = Entry(2, {**event, "log_format": "{error}", "error": error, "endpoint": "tcp"})
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Held]
    assert "Traceback" in failed.document["failure"]
    assert told.document["message"].startswith("('why")
    assert (told["endpoint"], told["log_level"]) == ("tcp", LogLevel.error)


def test_a_reader_is_told_of_what_it_wants_and_woken(events: Events) -> None:
    woken: list[int] = []
    reader = events.open(Filter(endpoint="tcp"), None, lambda: woken.append(1), lambda: None)
    log.info("a", endpoint="tcp")
    log.info("b", endpoint="udp")
    log.debug("c", endpoint="tcp")
    assert (read(reader), woken, reader.missed) == (["a"], [1], 0)
    events.close(reader)
    log.info("a", endpoint="tcp")
    assert (read(reader), woken, len(events)) == ([], [1], 0)


def test_a_slow_reader_loses_the_first_and_knows_how_many(events: Events) -> None:
    reader = events.open(Filter(), None, lambda: None, lambda: None)
    for number in range(MOST_WAITING + 5):
        log.info("{number}", number=number)
    assert reader.missed == 5
    found = read(reader)
    assert (len(found), found[0]) == (MOST_WAITING, "5")


def test_a_reader_goes_on_where_it_was(events: Events) -> None:
    log.info("a")
    after = events.last
    log.info("b")
    reader = events.open(Filter(), after, lambda: None, lambda: None)
    log.info("c")
    assert (read(reader), reader.missed) == (["b", "c"], 0)


@pytest.mark.parametrize("after", ["before the run", "long ago", "in the future"])
def test_a_reader_that_comes_too_late_is_told_that_nobody_knows_how_much_it_missed(
    events: Events, after: str
) -> None:
    first = events.last
    for number in range(KEPT + 2):
        log.info("{number}", number=number)
    begins = {"before the run": first - 1000, "long ago": first + 1, "in the future": events.last + 10}[after]
    reader = events.open(Filter(), begins, lambda: None, lambda: None)
    assert reader.missed is None
    assert read(reader)[0] == "2"


def test_the_end_is_told(events: Events) -> None:
    ends: list[int] = []
    events.open(Filter(), None, lambda: None, lambda: ends.append(1))
    events.stop()
    assert (ends, len(events)) == ([1], 0)
    log.info("x")
    assert seen(events) == []


def test_events_of_other_threads_are_noted_in_the_reactors(events: Events) -> None:
    thread = threading.Thread(target=lambda: log.info("from a thread"))
    thread.start()
    thread.join()
    assert seen(events) == []
    ((note, event),) = events._clock.called
    note(event)
    assert seen(events) == ["from a thread"]


def test_how_events_are_sent(events: Events) -> None:
    log.emit(LogLevel.info, "a\nb\r\ndata: x")
    (entry,) = events.since(0, Filter())[0]
    text = event_lines(entry)
    head, data, *rest = text.split(b"\n")
    assert (head, rest) == (b"id: %d" % events.last, [b"", b""])
    assert b"\r" not in text
    assert json.loads(data.removeprefix(b"data: "))["message"] == "a\nb\r\ndata: x"
    assert missed_lines(3) == b'event: missed\ndata: {"missed": 3}\n\n'
    assert missed_lines(None) == b'event: missed\ndata: {"missed": null}\n\n'
