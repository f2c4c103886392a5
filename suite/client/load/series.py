"""Rate and latency over time: the rows of a result, and an HdrHistogram log.

Rules: a row is as long as it was, not as long as it should have been; a log is written while the load runs,
so that what has been measured outlives it; a log that cannot be written stops nothing, and is reported last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

from suite.client.histogram import Histogram
from suite.client.load.schedule import NANO
from suite.errors import SuiteError, UsageError
from suite.text import one_line, shown

#: How many rows a load has, if it is long enough for `SHORTEST_ROW`.
ROWS: Final = 100

#: Seconds.
SHORTEST_ROW: Final = 0.1

#: Seconds between two lines of a log; what HdrHistogram's own recorders use.
LOG_EVERY: Final = 1.0

COLUMNS: Final = ("start", "seconds", "messages", "errors", "p50", "p99", "max")


@dataclass(frozen=True)
class Row:
    """One interval of a load.

    :ivar start: seconds since measuring began.
    :ivar seconds: its length.
    :ivar messages: messages answered in it.
    :ivar errors: errors and lost datagrams in it.
    :ivar p50: percentiles of the latencies in µs, and their maximum; None where nothing was answered.
    """

    start: float
    seconds: float
    messages: int
    errors: int
    p50: int | None
    p99: int | None
    max: int | None

    @property
    def values(self) -> list[float | int | None]:
        """In the order of `COLUMNS`."""
        return [getattr(self, name) for name in COLUMNS]


class Interval(NamedTuple):
    """One interval of a load, before anything is derived from it.

    :ivar start: seconds since measuring began.
    :ivar seconds: its length.
    :ivar latency: the latencies of the messages answered in it.
    :ivar errors: errors and lost datagrams in it.
    """

    start: float
    seconds: float
    latency: Histogram
    errors: int


class LogError(SuiteError):
    """A log that could not be written; the only argument names the file and the reason."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class HistogramLog:
    """An HdrHistogram log (format 1.3, ``.hlog``): a histogram in µs for each interval.

    :raises UsageError: *file* cannot be opened.
    :ivar problem: why it could not be written; None: all is well.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        if file.exists() and not file.is_file():
            raise UsageError(
                f"--hlog {shown(file)}: not a regular file; expected the name of one, or a new one"
            )
        try:
            self._output: IO[str] = file.open("w", encoding="ascii")
        except OSError as error:
            raise UsageError(f"--hlog {shown(file)}: {error.strerror}") from None
        self.problem: LogError | None = None

    def begin(self, now: float) -> None:
        """Write the header.

        :param now: the time of the start, in seconds since the epoch.
        """
        day = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(now))
        self._write(
            "#[Logged with the echo suite; latencies in microseconds]\n"
            "#[Histogram log format version 1.3]\n"
            f"#[StartTime: {now:.3f} (seconds since epoch), {day}]\n"
            '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
        )

    def add(self, start: float, seconds: float, histogram: Histogram) -> None:
        """Write one interval; both times are in seconds, *start* since the start of the log."""
        greatest = histogram.greatest / 1000  # in ms, as other writers have it
        self._write(f"{start:.3f},{seconds:.3f},{greatest:.3f},{histogram.encode()}\n")

    def close(self) -> None:
        """Close the file."""
        try:
            self._output.close()
        except OSError as error:
            self._failed(error)

    def _write(self, text: str) -> None:
        if self.problem is None:
            try:
                self._output.write(text)
                self._output.flush()
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        if self.problem is None:
            self.problem = LogError(f"--hlog {shown(self._file)}: {error.strerror or error}")


class Intervals:
    """Divides a load into intervals.

    :param begin: when measuring begins, by the clock of `time.monotonic_ns`.
    :param length: seconds of an interval, at least: it ends when somebody looks.
    :param ended: called with the start of each interval, its length (both in seconds), and its latencies.
    :ivar current: the latencies of the interval that has not ended.
    """

    def __init__(self, begin: int, length: float, ended: Callable[[float, float, Histogram], None]) -> None:
        self._begin = self._start = begin
        self._length = int(length * NANO)
        self._next = begin + self._length
        self._ended = ended
        self.current = Histogram()

    def look(self, now: int, *, last: bool = False) -> None:
        """End the interval if it is time.

        :param last: whether the load ends, and with it the interval.
        """
        if now < self._next and not (last and now > self._start):
            return
        start, self._start = self._start, now
        while self._next <= now:
            self._next += self._length
        histogram, self.current = self.current, Histogram()
        self._ended((start - self._begin) / NANO, (now - start) / NANO, histogram)


def row_length(seconds: float) -> float:
    """Seconds of a row in a load that is planned to last *seconds*."""
    return max(SHORTEST_ROW, seconds / ROWS)


def merged_interval(found: Sequence[Interval]) -> Interval:
    """The same interval of several processes; they began together, and each looked when it could."""
    latency = Histogram()
    for each in found:
        latency.merge(each.latency)
    start = min(each.start for each in found)
    end = max(each.start + each.seconds for each in found)
    return Interval(start, end - start, latency, sum(each.errors for each in found))


def make_row(interval: Interval) -> Row:
    """The row for one interval."""
    start, seconds, histogram, errors = interval
    if not histogram.total:
        return Row(round(start, 3), round(seconds, 3), 0, errors, None, None, None)
    p50, p99 = histogram.percentiles([50, 99])
    return Row(round(start, 3), round(seconds, 3), histogram.total, errors, p50, p99, histogram.greatest)
