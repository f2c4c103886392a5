"""The log: one line for each event on standard error, as text for people or as JSON for programs.

Rules: text from a peer is escaped and shortened before it is written; an event that is not shown is never
formatted; repeated events are counted instead of shown, so that a flood of bad clients cannot flood the
log; a destination that is closed, full or unread loses lines, but never stops the server.

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

#: The namespace of the suite's own events.
NAMESPACE: Final = "suite"

#: Characters shown of a field, of a message and of a traceback; a longer one is cut in the middle.
FIELD_LENGTH: Final = 200
MESSAGE_LENGTH: Final = 2000
FAILURE_LENGTH: Final = 8000

#: Length of a window in seconds; all kinds of events are counted in the same windows.
WINDOW: Final = 1.0

#: Events of one kind shown in a window; the rest are only counted.
BURST: Final = 5

#: Lines in a window for all kinds together, summaries included (systemd-journald allows a service
#: 10,000 messages in 30 seconds: RateLimitBurst= in journald.conf(5)).
TOTAL: Final = 100

#: Kinds distinguished in a window. A summary for each, and one for all others, add up to `TOTAL` lines.
KINDS: Final = TOTAL - 1


# Settings.


@dataclass(frozen=True)
class Settings:
    """How to log.

    :ivar style: ``"text"``, ``"json"``, or None: text on a terminal, JSON elsewhere.
    :ivar level: the lowest level at which the suite's own events are shown: ``"debug"``, ``"info"``, …
    :raises UsageError: there is no such style or level.
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

    Events of other packages are shown if they are warnings or worse (and at least at our own level).
    """
    levels = LogLevelFilterPredicate(max(LogLevel.warn, LogLevel.lookupByName(settings.level)))
    levels.setLogLevelForNamespace(NAMESPACE, LogLevel.lookupByName(settings.level))
    observers = []
    if sys.stderr is not None:  # None after `2>&-`, when descriptor 2 may be a client's
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
    """*text*, cut in the middle if it is longer than *length* characters."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters cut] {text[-half:]}"


def as_text(value: object, length: int = FIELD_LENGTH) -> str:
    """Any *value* as text that can be encoded in UTF-8."""
    return cut(safe_str(value), length).encode("utf-8", "backslashreplace").decode()


def as_number(value: object) -> int | float | str:
    """*value* as a number that any JSON parser can read (at most 64 bits); otherwise as text."""
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 6)
    return as_text(value)


#: The fields that an event may have besides its message, and how each is converted.
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
    """The message of *event*, without a traceback."""
    # `twisted.python.log.err` makes the traceback part of the message.
    if "log_failure" not in event and isinstance(event.get("failure"), Failure):
        return as_text(event.get("why") or "Unhandled Error", MESSAGE_LENGTH)
    return as_text(formatEvent(event), MESSAGE_LENGTH)


def fields_of(event: LogEvent) -> dict[str, Any]:
    """The fields of *event* as plain values, in the order in which they are shown."""
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
    """*event* as a JSON object (RFC 8259) on one line of printable ASCII."""
    return json.dumps(fields_of(event))


def text_line(event: LogEvent) -> str:
    """*event* as one line for people, followed by indented lines for a traceback.

    Fields that the message already contains are not repeated.
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

#: The settings of a command line without logging options.
DEFAULT: Final = Settings()


# Rate limits.


@dataclass(slots=True)
class KindCount:
    """Counts of the events of one kind in a window.

    :ivar like: the fields that the events of this kind have in common.
    :ivar burst: how many events may be shown.
    :ivar shown: how many have been shown.
    :ivar suppressed: how many have only been counted.
    :ivar example: the message of the first suppressed event.
    """

    like: dict[str, Any]
    burst: int = BURST
    shown: int = 0
    suppressed: int = 0
    example: str = ""


#: The fields that define a kind. None of their values comes from a peer.
KIND: Final[tuple[str, ...]] = ("log_namespace", "log_format", "log_level", "endpoint", "reason")


@implementer(ILogObserver)
class RateLimit:
    """Passes on the first few events of each kind, and only the number of the others.

    Time is divided into windows. The first `BURST` events of a kind in a window are shown; a summary at the
    end of the window counts the rest. A kind that exceeds `BURST` in one window gets only summaries until a
    window has no more than that. At most `TOTAL` lines are shown in a window. Debug events are not limited: a
    user who asks for them wants them all.

    :param clock: measures the windows; without events, nothing is scheduled.
    :param observer: receives the events that are shown.
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
        except TypeError:  # a field is not hashable: a list, for instance
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
            None, KindCount(others, burst=0, example="too many kinds of events to distinguish")
        )

    def _end_window(self) -> None:
        self._end = None
        self._summarize()
        if self._counts or self._lines:
            self._end = self._clock.callLater(WINDOW, self._end_window)

    def _summarize(self) -> None:
        """Pass on the counts of suppressed events, and start counting anew."""
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
        """Pass on the counts of suppressed events now, and cancel the timer."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._summarize()
        self._counts.clear()


# Output.


def reopened(terminal: int) -> int:
    """A non-blocking descriptor of our own for the *terminal*; if it cannot be opened, *terminal* itself.

    A terminal that is stopped, or whose other end hangs, is reported as ready, but blocks when written to.
    The original descriptor cannot be made non-blocking, because the shell shares it.
    """
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # no /dev, or no permission
        return terminal


@implementer(ILogObserver)
class Destination:
    """Writes lines to a file descriptor that may be closed, full, or an unread pipe.

    Writing never blocks or raises: a line that cannot be written at once is dropped and counted, and the next
    line that can be written is preceded by the count.

    :param descriptor: the descriptor to write to; it is not closed.
    :param line: formats an event as a line.
    :param encoding: the encoding of the lines; characters that it lacks are escaped.
    :ivar lost: lines dropped since the last successful write.
    """

    def __init__(self, descriptor: int, line: Callable[[LogEvent], str], encoding: str = "utf-8") -> None:
        self._descriptor = descriptor
        self._line = line
        self._encoding = encoding
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._torn = False  # the last line was written in part
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
            self._why = "destination not read" if unread else error.strerror or str(error)
        else:
            self.lost = 0

    def _loss(self) -> LogEvent:
        return {
            "log_namespace": __name__,
            "log_level": LogLevel.warn,
            "log_time": time.time(),
            "log_format": "log lines dropped here: {lost:,} ({why})",
            "lost": self.lost,
            "why": self._why,
        }

    def _write(self, data: bytes) -> None:
        """Write all of *data*.

        :raises OSError: some or all of it could not be written.
        """
        rest = memoryview(data)
        while rest:
            if not self._poll.poll(0):
                raise BlockingIOError
            # A pipe that is ready accepts this many bytes without blocking (see select.PIPE_BUF).
            written = os.write(self._descriptor, rest[: select.PIPE_BUF])
            rest = rest[written:]
            self._torn = bool(rest)
