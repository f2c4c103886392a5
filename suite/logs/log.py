"""The log of a process: its settings, and where it goes.

Rule: a destination that is closed, full or unread loses lines, but never stops the server.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    globalLogBeginner,
)
from zope.interface import implementer

from suite.errors import SuiteError, UsageError
from suite.logs.limit import RateLimit
from suite.logs.lines import NAMESPACE, STYLES
from suite.output import LineWriter, open_log_file, reopened
from suite.text import suggest


@dataclass(frozen=True)
class Settings:
    """How and where to log.

    :ivar style: ``"text"``, ``"json"``, or None: text on a terminal, JSON elsewhere.
    :ivar level: the lowest level at which the suite's own events are shown: ``"debug"``, ``"info"``, …
    :ivar file: the file to append to; None: standard error.
    :raises UsageError: there is no such style or level.
    """

    style: str | None = None
    level: str = "info"
    file: Path | None = None

    def __post_init__(self) -> None:
        levels = [level.name for level in LogLevel.iterconstants()]
        if self.style is not None and self.style not in STYLES:
            raise UsageError(f"--log {self.style!r}: no such format{suggest(self.style, STYLES)}")
        if self.level not in levels:
            raise UsageError(f"--log-level {self.level!r}: no such level{suggest(self.level, levels)}")


#: The settings of a command line without logging options.
DEFAULT: Final = Settings()


@implementer(ILogObserver)
class Destination:
    """Where the lines of a log go, and what they look like.

    :param writer: writes the lines, and counts those that cannot be written.
    :param line: formats an event as a line.
    :ivar more: fields that every event has here.
    """

    more: Mapping[str, object] = MappingProxyType({})

    def __init__(self, writer: LineWriter, line: Callable[[LogEvent], str]) -> None:
        self.writer = writer
        self._line = line
        writer.loss = self._loss

    def __call__(self, event: LogEvent) -> None:
        """Write *event*."""
        self.writer.write(self._line({**event, **self.more} if self.more else event))

    def _loss(self, lost: int, why: str) -> str:
        return self._line(
            {
                "log_namespace": __name__,
                "log_level": LogLevel.warn,
                "log_time": time.time(),
                "log_format": "log lines dropped here: {lost:,} ({why})",
                "lost": lost,
                "why": why,
            }
        )


class LogFile:
    """A log file, which can be moved away and opened anew.

    :raises SuiteError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Absolute, so that it is the same file wherever the process is when it is reopened.
            self.path = path.absolute()
            self.writer = LineWriter(open_log_file(self.path))
        except OSError as error:
            problem = f"cannot be written: {error.strerror}; expected a file to append to"
            raise SuiteError(f"--log-file {str(path)!r}: {problem}") from None

    def reopen(self) -> None:
        """Open the file that has the path now, and leave the one open so far.

        :raises OSError: it cannot be opened; the one open so far stays in use.
        """
        self.writer.redirect(open_log_file(self.path))


@dataclass(frozen=True)
class Log:
    """A log that has been started.

    :ivar file: the file that it goes to; None: it goes elsewhere.
    """

    file: LogFile | None = None
    _limit: RateLimit | None = None
    _destination: Destination | None = None

    def carry_on(self, reactor: Any, worker: int) -> None:
        """Log on from *worker*, a process forked from the one that has started the log and goes on, too."""
        if self._limit is not None and self._destination is not None:
            self._destination.more = {"worker": worker}
            self._limit.begin_anew(reactor)
            reactor.addSystemEventTrigger("after", "shutdown", self._limit.flush)

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that it writes to."""
        return [] if self._destination is None else [self._destination.writer.descriptor]

    @property
    def suppressed(self) -> int:
        """Events that have only been counted, because there were too many like them."""
        return self._limit.suppressed if self._limit is not None else 0

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._destination.writer.lost_in_all if self._destination is not None else 0


@implementer(ILogFilterPredicate)
class Requested:
    """Events that a user has asked for by a signal are shown at any level."""

    def __call__(self, event: LogEvent) -> Any:
        """Show *event*, or let others decide."""
        return PredicateResult.yes if "requested" in event else PredicateResult.maybe


def start(reactor: Any, settings: Settings) -> Log:
    """Log from now on, until *reactor* has shut down.

    Events of other packages are shown if they are warnings or worse (and at least at our own level).

    :raises SuiteError: the log file cannot be opened.
    """
    file = LogFile(settings.file) if settings.file is not None else None
    terminal = file is None and sys.stderr is not None and os.isatty(sys.stderr.fileno())
    line = STYLES[settings.style or ("text" if terminal else "json")]
    observers = []
    writer: LineWriter | None = None
    limit: RateLimit | None = None
    destination: Destination | None = None
    if file is not None:
        writer = file.writer
    elif sys.stderr is not None:  # None after `2>&-`
        writer = LineWriter(reopened(sys.stderr.fileno()), sys.stderr.encoding)
    if writer is not None:
        levels = LogLevelFilterPredicate(max(LogLevel.warn, LogLevel.lookupByName(settings.level)))
        levels.setLogLevelForNamespace(NAMESPACE, LogLevel.lookupByName(settings.level))
        destination = Destination(writer, line)
        limit = RateLimit(reactor, destination)
        reactor.addSystemEventTrigger("after", "shutdown", limit.flush)
        observers.append(FilteringLogObserver(limit, [Requested(), levels]))
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
    return Log(file, limit, destination)
