"""What happens to a suite, for those who watch it: the events of its log, at every level, as they come.

Rules: an event has the words and fields of its JSON line in the log, and an id; ids only grow, also over a
restart. The last `KEPT` at ``debug`` are kept, and the last `KEPT` above, so that ordinary ends push out no
refusal. What nobody asks for is never formatted. Who is slow loses what it has not read, and is told so.
"""

from __future__ import annotations

import heapq
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, globalLogPublisher
from twisted.python.threadable import isInIOThread
from typing_extensions import override
from zope.interface import implementer

from suite.admin.exchange import json_bytes
from suite.logs.lines import NAMESPACE, fields_of

#: Events that are kept, of those at ``debug`` and of the others.
KEPT: Final = 1000

#: Events that wait for one reader at the most; all that are kept, if it begins with those.
MOST_WAITING: Final = 2 * KEPT

#: The levels, in order.
LEVELS: Final = ("debug", "info", "warn", "error", "critical")

#: Types of fields that stay what they are, so that an event with no others may be formatted later.
_PLAIN: Final = frozenset({str, int, float, bool, type(None), Logger, type(LogLevel.info)})


class Entry:
    """An event.

    :ivar number: its id.
    """

    __slots__ = ("_event", "_fields", "number")

    def __init__(self, number: int, event: LogEvent) -> None:
        self.number = number
        self._event = event
        self._fields: dict[str, Any] | None = None
        if not all(type(value) in _PLAIN for value in event.values()):
            # An exception, for instance, which would keep all that its traceback knows.
            self._fields = fields_of(event)
            self._event = {name: event.get(name) for name in ("log_level", "endpoint", "reason")}

    @classmethod
    def of(cls, number: int, fields: dict[str, Any]) -> Self:
        """The event with these *fields*, as `suite.logs.lines.fields_of` has them."""
        found = cls(number, {})
        found._fields = fields
        found._event = {
            "log_level": LogLevel.lookupByName(fields["level"]),
            "endpoint": fields.get("endpoint"),
            "reason": fields.get("reason"),
        }
        return found

    def __getitem__(self, name: str) -> Any:
        """A field of the event as it was logged; None if it has no such field."""
        return self._event.get(name)

    @property
    def document(self) -> dict[str, Any]:
        """What the API says of it."""
        if self._fields is None:
            self._fields = fields_of(self._event)
        return {"id": self.number, **self._fields}


class Filter:
    """Which events are asked for.

    :param level: those at this level or above.
    :param endpoint: those of this endpoint; None: of all, and of none.
    :param reason: those with this reason; None: with any, or none.
    """

    def __init__(self, level: str = "info", endpoint: str | None = None, reason: str | None = None) -> None:
        self._levels = frozenset(map(LogLevel.lookupByName, LEVELS[LEVELS.index(level) :]))
        self._fields = {"endpoint": endpoint, "reason": reason}
        self._wanted = [(name, value) for name, value in self._fields.items() if value is not None]
        self.debug = level == "debug"

    def __call__(self, entry: Entry) -> bool:
        """Whether *entry* is asked for."""
        return entry["log_level"] in self._levels and all(
            entry[name] == value for name, value in self._wanted
        )


class Reader:
    """Somebody who is told of events as they come.

    :param wanted: which.
    :param wake: called when something has come.
    :param end: called when nothing more will come.
    :ivar waiting: what has come and has not been read.
    :ivar missed: how many have been dropped since the last that was read; None: some, nobody knows how many.
    """

    def __init__(self, wanted: Filter, wake: Callable[[], object], end: Callable[[], object]) -> None:
        self.waiting: deque[Entry] = deque()
        self.missed: int | None = 0
        self._wanted = wanted
        self._wake = wake
        self.end = end

    def catch_up(self, entries: Iterable[Entry], *, missing: bool) -> None:
        """Begin with *entries*, whether or not some before them are *missing*."""
        self.waiting.extend(entries)
        if missing:
            self.missed = None

    def miss(self, *, debug: bool) -> None:
        """Nobody knows how many have not come: of those at ``debug``, or of the others."""
        if self._wanted.debug or not debug:
            self.missed = None
            self._wake()

    def offer(self, entry: Entry) -> None:
        """*entry* has come."""
        if not self._wanted(entry):
            return
        if len(self.waiting) >= MOST_WAITING:
            self.waiting.popleft()
            if self.missed is not None:
                self.missed += 1
        self.waiting.append(entry)
        self._wake()


class _Ring:
    """The last events of one kind.

    :ivar dropped: the id of the last that is no longer there.
    """

    def __init__(self, before: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.dropped = before

    def add(self, entry: Entry) -> None:
        if len(self.entries) == KEPT:
            self.dropped = self.entries[0].number
        self.entries.append(entry)


@implementer(ILogObserver)
class OwnEvents:
    """Takes note of the suite's own events, in the reactor's thread.

    :param clock: the reactor.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def __call__(self, event: LogEvent) -> None:
        """Take note of *event*, if it is the suite's own."""
        if str(event.get("log_namespace", "")).partition(".")[0] != NAMESPACE:
            return
        if isInIOThread():
            self._note(event)
        else:
            self._clock.callFromThread(self._note, event)

    @abstractmethod
    def _note(self, event: LogEvent) -> None:
        """Take note of *event*."""


class Events(OwnEvents):
    """The events of the suite in this process, from `start` to `stop`.

    :param clock: the reactor, in whose thread readers are told.
    :ivar last: the id of the last event.
    """

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        # A JavaScript number holds microseconds until the year 2255.
        self.last = time.time_ns() // 1000
        self._debug, self._others = _Ring(self.last), _Ring(self.last)
        self._readers: dict[Reader, None] = {}

    def start(self) -> None:
        """Take note of events; those before are not known, whatever has happened meanwhile."""
        self.last += 1
        self._debug, self._others = _Ring(self.last), _Ring(self.last)
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Take no more note of events, and have nobody wait for any."""
        globalLogPublisher.removeObserver(self)
        for reader in [*self._readers]:
            reader.end()
        self._readers.clear()

    @override
    def _note(self, event: LogEvent) -> None:
        self.last += 1
        self._add(Entry(self.last, event))

    def note_fields(self, fields: dict[str, Any]) -> None:
        """Take note of an event of another process, of which this is known (`Entry.of`)."""
        self.last += 1
        self._add(Entry.of(self.last, fields))

    def _add(self, entry: Entry) -> None:
        ring = self._debug if entry["log_level"] is LogLevel.debug else self._others
        ring.add(entry)
        for reader in self._readers:
            reader.offer(entry)

    def note_missing(self, *, debug: bool) -> None:
        """Some events of another process, of one kind, will never come.

        :param debug: whether they are those at ``debug``, or the others.
        """
        self.last += 1
        (self._debug if debug else self._others).dropped = self.last
        for reader in self._readers:
            reader.miss(debug=debug)

    def since(self, number: int, wanted: Filter) -> tuple[Iterator[Entry], bool]:
        """The events behind the id *number* that are *wanted*, in order, and whether some may be missing."""
        if number > self.last:  # of another run; the clock has been set back since
            number = 0
        rings = [self._debug, self._others] if wanted.debug else [self._others]
        found = heapq.merge(*(ring.entries for ring in rings), key=lambda entry: entry.number)
        missing = any(ring.dropped > number for ring in rings)
        return (entry for entry in found if entry.number > number and wanted(entry)), missing

    def open(
        self, wanted: Filter, after: int | None, wake: Callable[[], object], end: Callable[[], object]
    ) -> Reader:
        """A reader of the events that are *wanted*, behind the id *after*, or from now on.

        :param wake: called when something has come; not for what is there at once.
        :param end: called when nothing more will come.
        """
        reader = Reader(wanted, wake, end)
        if after is not None:
            entries, missing = self.since(after, wanted)
            reader.catch_up(entries, missing=missing)
        self._readers[reader] = None
        return reader

    def close(self, reader: Reader) -> None:
        """Tell *reader* of no more events."""
        self._readers.pop(reader, None)

    def __len__(self) -> int:
        """The number of readers."""
        return len(self._readers)


def event_lines(entry: Entry) -> bytes:
    """*entry* as a server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"id: %d\ndata: %b\n" % (entry.number, json_bytes(entry.document))


def missed_lines(missed: int | None) -> bytes:
    """The server-sent event that says that *missed* events have been dropped; None: nobody knows how many."""
    return b"event: missed\ndata: %b\n" % json_bytes({"missed": missed})
