"""The log: one line for one event on standard error, as text for people or as JSON for programs.

Rules: what a peer sends is escaped and cut to length before it is written; an event that is not
shown is never formatted; repeats are counted instead of shown, so that no flood of bad clients is a
flood of lines; a destination that is gone, full or not read by anyone costs lines, never the server.

docs/logs.md describes the lines, the fields and the limits.
"""

from __future__ import annotations

import json
import math
import os
import select
import sys
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr, safe_str
from zope.interface import implementer

from suite.errors import UsageError
from suite.text import one_line, suggest

#: Whose events are the suite's own.
NAMESPACE: Final = "suite"

#: Characters shown of a field, of a message and of a traceback; what is longer loses its middle.
FIELD_LENGTH: Final = 200
MESSAGE_LENGTH: Final = 2000
FAILURE_LENGTH: Final = 8000

#: Seconds over which events are counted, all kinds in the same ones.
WINDOW: Final = 1.0

#: Events of one kind shown in a window before the rest is only counted.
BURST: Final = 5

#: Lines in a window, of all kinds together, summaries included (systemd-journald's own limit is
#: 10,000 in 30 seconds for everything a service says: RateLimitBurst= in journald.conf(5)).
TOTAL: Final = 100

#: Kinds told apart in a window. With one summary each, and one for the others, they keep to `TOTAL`.
KINDS: Final = TOTAL - 1


# What is asked for.


@dataclass(frozen=True)
class Settings:
    """How to log.

    :ivar style: ``"text"``, ``"json"``, or None: text on a terminal, JSON elsewhere.
    :ivar level: the least level shown of the suite's own events: ``"debug"``, ``"info"``, …
    :raises UsageError: there is no such style, or no such level.
    """

    style: str | None = None
    level: str = "info"

    def __post_init__(self) -> None:
        levels = [level.name for level in LogLevel.iterconstants()]
        if self.style is not None and self.style not in STYLES:
            raise UsageError(f"--log {self.style!r}: no such format{suggest(self.style, STYLES)}")
        if self.level not in levels:
            raise UsageError(f"--log-level {self.level!r}: no such level{suggest(self.level, levels)}")


def start(reactor: Any, settings: Settings) -> None:
    """Log to standard error from now on, until *reactor* has shut down.

    Of everyone else's events those are shown that are at least warnings (and at least at our own level).
    """
    levels = LogLevelFilterPredicate(max(LogLevel.warn, LogLevel.lookupByName(settings.level)))
    levels.setLogLevelForNamespace(NAMESPACE, LogLevel.lookupByName(settings.level))
    observers = []
    if sys.stderr is not None:  # which it is after `2>&-`; descriptor 2 may be a client's then
        descriptor = sys.stderr.fileno()
        terminal = os.isatty(descriptor)
        line = STYLES[settings.style or ("text" if terminal else "json")]
        if terminal:
            descriptor = reopened(descriptor)
        limit = RateLimit(reactor, Destination(descriptor, line, sys.stderr.encoding))
        reactor.addSystemEventTrigger("after", "shutdown", limit.flush)
        observers.append(FilteringLogObserver(limit, [levels]))
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)


# From an event to a line.


def cut(text: str, length: int) -> str:
    """*text*, without its middle if it has more than *length* characters."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters cut] {text[-half:]}"


def as_text(value: object, length: int = FIELD_LENGTH) -> str:
    """*value* as text that has a UTF-8 form, whatever it is."""
    return cut(safe_str(value), length).encode("utf-8", "backslashreplace").decode()


def as_number(value: object) -> int | float | str:
    """*value* as a number that JSON has and that everyone can read (64 bits); otherwise as text."""
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 6)
    return as_text(value)


#: The fields that an event may have beside its message, and what becomes of them.
FIELDS: Final[dict[str, Callable[[object], int | float | str]]] = {
    "endpoint": as_text,
    "connection": as_number,
    "peer": as_text,
    "reason": as_text,
    "received": as_number,
    "duration": as_number,
    "suppressed": as_number,
}


def message_of(event: LogEvent) -> str:
    """What *event* says, without a traceback."""
    # `twisted.python.log.err` makes the traceback a part of what is said.
    if "log_failure" not in event and isinstance(event.get("failure"), Failure):
        return as_text(event.get("why") or "Unhandled Error", MESSAGE_LENGTH)
    return as_text(formatEvent(event), MESSAGE_LENGTH)


def fields_of(event: LogEvent) -> dict[str, Any]:
    """*event* as plain values, in the order in which they are shown."""
    when = datetime.fromtimestamp(event["log_time"], UTC)
    fields: dict[str, Any] = {
        "time": when.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
        "level": event["log_level"].name,
    }
    namespace = as_text(event["log_namespace"])
    if namespace.partition(".")[0] != NAMESPACE:
        fields["namespace"] = namespace
    for name, convert in FIELDS.items():
        value = event.get(name)
        if value is not None:
            fields[name] = convert(value)
    fields["message"] = message_of(event)
    failure = event.get("log_failure", event.get("failure"))
    if isinstance(failure, Failure):
        fields["failure"] = as_text(failure.getTraceback().rstrip("\n"), FAILURE_LENGTH)
    return fields


def json_line(event: LogEvent) -> str:
    """*event* as a JSON object (RFC 8259) in one line of printable ASCII."""
    return json.dumps(fields_of(event))


def text_line(event: LogEvent) -> str:
    """*event* as one line for people; a traceback follows in lines of its own, indented.

    What the message says itself is not said twice.
    """
    fields = fields_of(event)
    template = str(event.get("log_format"))
    for name in FIELDS:
        if any("{" + name + after in template for after in "}!:"):
            fields.pop(name, None)
    words = [fields["time"], fields["level"]]
    if "endpoint" in fields or "connection" in fields:
        number = f"#{fields['connection']}" if "connection" in fields else ""
        words.append(f"{fields.get('endpoint', '')}{number}")
    if "peer" in fields:
        words.append(fields["peer"])
    if "namespace" in fields:
        words.append(f"[{fields['namespace']}]")
    words.append(fields["message"])
    details = [fields["reason"]] if "reason" in fields else []
    if "received" in fields:
        details.append(with_unit(fields["received"], "byte" if fields["received"] == 1 else "bytes"))
    if "duration" in fields:
        details.append(with_unit(fields["duration"], "s"))
    if details:
        words.append(f"({', '.join(details)})")
    lines = [" ".join(words)]
    if "failure" in fields:
        lines += [f"    {line}" for line in fields["failure"].split("\n")]
    return "\n".join(map(one_line, lines))


def with_unit(value: int | float | str, unit: str) -> str:
    """``1,024 bytes``, ``60.2 s``."""
    if isinstance(value, float):
        return f"{value:,.1f} {unit}"
    return f"{value:,} {unit}" if isinstance(value, int) else f"{value} {unit}"


STYLES: Final[dict[str, Callable[[LogEvent], str]]] = {"text": text_line, "json": json_line}

#: As from a command line that says nothing about it.
DEFAULT: Final = Settings()


# How much of it.


@dataclass(slots=True)
class KindCount:
    """What has become of the events of one kind in a window.

    :ivar like: the fields that make it this kind.
    :ivar burst: how many of them may be shown.
    :ivar example: the message of the first that was not.
    """

    like: dict[str, Any]
    burst: int = BURST
    shown: int = 0
    suppressed: int = 0
    example: str = ""


#: What events of one kind have in common. Peers decide about none of it.
KIND: Final[tuple[str, ...]] = ("log_namespace", "log_format", "log_level", "endpoint", "reason")


@implementer(ILogObserver)
class RateLimit:
    """Passes on the first few events of a kind, and in place of the others how many there were.

    Time is divided into windows. The first `BURST` events of a kind in a window are shown; how many
    followed is said when it ends. While a kind goes on like this, window after window, only the
    number is said. In all, no more than `TOTAL` lines are shown in a window. Debug events are not
    limited: who asks for them wants every one.

    :param clock: measures the windows; while nothing happens, nothing is scheduled.
    :param observer: is given what is shown.
    """

    def __init__(self, clock: IReactorTime, observer: ILogObserver) -> None:
        self._clock = clock
        self._observer = observer
        self._counts: dict[Hashable, KindCount] = {}
        self._lines = 0
        self._end: IDelayedCall | None = None

    def __call__(self, event: LogEvent) -> None:
        """Show *event*, or count it."""
        get = event.get
        level = get("log_level")
        if level is LogLevel.debug:
            self._observer(event)
            return
        kind = (get("log_namespace"), get("log_format"), level, get("endpoint"), get("reason"))
        try:
            count = self._counts.get(kind)
        except TypeError:  # somebody's field is a list, or the like
            kind = tuple(map(safe_repr, kind))
            count = self._counts.get(kind)
        if count is None:
            count = self._new_count(kind, event)
        if count.shown < count.burst and self._lines < TOTAL:
            count.shown += 1
            self._lines += 1
            self._observer(event)
        else:
            if not count.suppressed:
                count.example = count.example or message_of(event)
            count.suppressed += 1

    def _new_count(self, kind: Hashable, event: LogEvent) -> KindCount:
        if self._end is None:
            self._end = self._clock.callLater(WINDOW, self._end_window)
        if len(self._counts) < KINDS:
            like = {name: event[name] for name in KIND if name in event}
            return self._counts.setdefault(kind, KindCount(like))
        others = {"log_namespace": __name__, "log_level": LogLevel.warn}
        return self._counts.setdefault(
            None, KindCount(others, burst=0, example="there are more kinds of events than are told apart")
        )

    def _end_window(self) -> None:
        self._end = None
        self._summarize()
        if self._counts or self._lines:
            self._end = self._clock.callLater(WINDOW, self._end_window)

    def _summarize(self) -> None:
        """Say what was only counted, and begin to count anew."""
        counts, self._counts = self._counts, {}
        self._lines = 0
        for kind, count in counts.items():
            if not count.suppressed:
                continue
            if count.shown + count.suppressed > BURST:
                self._counts[kind] = KindCount(count.like, burst=0)
            self._lines += 1
            self._observer(
                {
                    **count.like,
                    "log_time": time.time(),
                    "log_format": "{example}; suppressed {suppressed:,} like it",
                    "example": count.example,
                    "suppressed": count.suppressed,
                }
            )

    def flush(self) -> None:
        """Say now what was only counted; nothing is scheduled any more."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._summarize()
        self._counts.clear()


# And out.


def reopened(terminal: int) -> int:
    """A descriptor of our own of the *terminal*, that does not block; if there can be none, *terminal*.

    One that is stopped, or whose other end hangs, says that it is ready, and then blocks after all.
    Its own descriptor must stay as it is: the shell has the same.
    """
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # no /dev in here, or not ours to open
        return terminal


@implementer(ILogObserver)
class Destination:
    """Writes lines to a file descriptor that may be full, gone, or a pipe that nobody reads.

    It neither blocks nor raises: a line that is not taken at once is lost, and counted; how many were
    is said as soon as one is taken again.

    :param descriptor: where to; it stays open.
    :param line: makes a line of an event.
    :param encoding: of the line; what has none in it is escaped.
    :ivar lost: how many lines were, since one was last taken.
    """

    def __init__(self, descriptor: int, line: Callable[[LogEvent], str], encoding: str = "utf-8") -> None:
        self._descriptor = descriptor
        self._line = line
        self._encoding = encoding
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._torn = False  # the last line has no end
        self._why = ""
        self.lost = 0

    def __call__(self, event: LogEvent) -> None:
        """Write *event*."""
        events = [event] if not self.lost else [self._loss(), event]
        lines = "".join(self._line(event) + "\n" for event in events)
        data = lines.encode(self._encoding, "backslashreplace")
        try:
            self._write(b"\n" + data if self._torn else data)
        except OSError as error:
            self.lost += 1
            unread = isinstance(error, BlockingIOError)
            self._why = "nobody reads it" if unread else error.strerror or str(error)
        else:
            self.lost = 0

    def _loss(self) -> LogEvent:
        return {
            "log_namespace": __name__,
            "log_level": LogLevel.warn,
            "log_time": time.time(),
            "log_format": "lines of this log that are lost here: {lost:,} ({why})",
            "lost": self.lost,
            "why": self._why,
        }

    def _write(self, data: bytes) -> None:
        """Write all of *data*.

        :raises OSError: some or all of it is not taken.
        """
        rest = memoryview(data)
        while rest:
            if not self._poll.poll(0):
                raise BlockingIOError
            # A pipe that is ready takes this much without blocking (select.PIPE_BUF, in Python's words).
            written = os.write(self._descriptor, rest[: select.PIPE_BUF])
            rest = rest[written:]
            self._torn = bool(rest)
