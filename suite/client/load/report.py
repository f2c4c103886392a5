"""The progress and the report of a load, for people.

Rules: progress goes to standard error, drawn by rich on a terminal, otherwise as plain lines; the report is
plain lines; nothing is measured here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

from suite.client.histogram import Histogram
from suite.client.load.measurement import Snapshot
from suite.client.load.options import Options
from suite.client.load.results import PERCENTILES, AddressResult, Result
from suite.client.load.schedule import Rate
from suite.client.load.units import shown_size, shown_time
from suite.output import Frames, LineWriter, reopened

BAR: Final = 40

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"

#: The upper bounds of the histogram's rows: 1, 2, 5, 10, … µs.
EDGES: Final = tuple(step * 10**power for power in range(10) for step in (1, 2, 5))

#: The share of one CPU above which the client itself may have been the bottleneck.
BUSY: Final = 0.9

#: Microseconds for which the client stood still that are worth a note.
STALLED: Final = 100_000

#: Shown in place of what was not measured.
NOTHING: Final = "\N{EN DASH}"

COMPARED: Final = (50.0, 90.0, 99.0, 99.9)


def counted(number: int, thing: str) -> str:
    """``1 message``, ``2,000 messages``."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def progress_line(snapshot: Snapshot, size: int) -> str:
    """The progress of a load in one line."""
    throughput = shown_size(snapshot.rate * size)
    return (
        f"{snapshot.seconds:6.1f} s  {snapshot.rate:10,.0f} messages/s  {throughput:>9}/s"
        f"  {counted(snapshot.errors, 'error')}"
    )


@contextmanager
def progress(options: Options) -> Iterator[Callable[[Snapshot], None]]:
    """A function that shows progress: a line that is updated on a terminal, otherwise one line a second.

    Lines that standard error does not take at once are dropped: a load waits for nobody.
    """
    stream: TextIO | None = sys.stderr
    if stream is None:  # closed
        yield lambda _: None
        return
    if stream.isatty():
        with _live(options, stream) as show:
            yield show
        return
    writer = LineWriter(reopened(stream.fileno()), stream.encoding)
    shown = 0

    def show_line(snapshot: Snapshot) -> None:
        nonlocal shown
        if int(snapshot.seconds) > shown:
            shown = int(snapshot.seconds)
            writer.write(progress_line(snapshot, options.size))

    yield show_line


@contextmanager
def _live(options: Options, stream: TextIO) -> Iterator[Callable[[Snapshot], None]]:
    from rich.console import Console  # noqa: PLC0415  # needed on a terminal only
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (BarColumn(BAR), TextColumn("{task.description}"))
    frames = Frames(reopened(stream.fileno()), stream.encoding)
    # Refreshed here when something has changed, since rich's refresh thread would disturb the measurement.
    with Progress(*columns, console=Console(file=frames), auto_refresh=False, transient=True) as bars:
        task = bars.add_task("connecting", total=options.duration)

        def show(snapshot: Snapshot) -> None:
            line = progress_line(snapshot, options.size)
            bars.update(task, completed=snapshot.seconds, description=line, refresh=True)

        bars.refresh()
        try:
            yield show
        finally:
            frames.last = True


def report(result: Result) -> list[str]:
    """The results, line by line."""
    options = result.options
    size = shown_size(options["size"])
    lines = [
        f"{result.target}: {_connections(result)}, messages of {size}, {_manner(options)}",
        _summary(result),
    ]
    if len(result.addresses) > 1:
        lines += ["", *address_lines(result.addresses)]
    if result.messages:
        lines += ["", *latency_lines(result.latency), "", *histogram_lines(result.latency), ""]
    lines += error_lines(result)
    if result.dead_after is not None:
        lines.append(f"note: no connection was left after {result.dead_after:.2f} s")
    if result.busy is not None and result.messages and result.busy >= BUSY:
        lines.append(f"note: this client used {result.busy:.0%} of a CPU; it may have been the bottleneck")
    if result.lag is not None and result.messages and result.lag > result.latency.percentile(50):
        lines.append(
            f"note: this client sent up to {shown_time(result.lag)} late, which is part of the latencies"
        )
    elif result.stalled is not None and result.messages and result.stalled >= STALLED:
        lines.append(
            f"note: this client stood still for {shown_time(result.stalled)}, which is part of the latencies"
        )
    return lines


def _connections(result: Result) -> str:
    """How many connections there were; of how many, if some could not be opened."""
    wanted: int | None = result.options.get("connections")
    if wanted is None or wanted == result.connections:
        return counted(result.connections, "connection")
    return f"{result.connections:,} of {counted(wanted, 'connection')}"


def _summary(result: Result) -> str:
    """How many messages were answered, in which time."""
    count = counted(result.messages, "message")
    if result.unanswered and result.due is not None:
        count = f"{result.messages:,} of {counted(result.due, 'message')}"
    if result.rate is None or result.seconds is None or result.throughput is None:
        return f"{count}: {NOTHING}{', interrupted before anything was measured' * result.interrupted}"
    return (
        f"{count} in {result.seconds:.2f} s{', then interrupted' * result.interrupted}:"
        f" {result.rate:,.0f}/s, {shown_size(result.throughput)}/s each way"
    )


def _manner(options: Any) -> str:
    window, rate = options.get("window"), options.get("rate")
    warmup = f", after {options['warmup']:g} s of warm-up" if options.get("warmup") else ""
    if rate is None:
        return f"closed loop, {window or 1} in flight on each{warmup}"
    limit = f", at most {window} in flight on each" if window else ""
    shown_rate = str(Rate(*rate)) if isinstance(rate, list) else f"{rate:,g}"
    return f"open loop, {shown_rate} messages/s due{limit}{warmup}"


def address_lines(addresses: Sequence[AddressResult]) -> list[str]:
    """A table of the addresses of one target, one line for each."""
    width = max(len("address"), *(len(each.address) for each in addresses))
    head = f"{'connections':>11}{'messages/s':>12}{'50 %':>10}{'99 %':>10}{'max':>10}"
    lines = [f"  {'address':<{width}}  {head}  errors"]
    for each in addresses:
        cells = "".join(f"{_time_or_nothing(value):>10}" for value in (each.p50, each.p99, each.max))
        errors = {**each.errors, **({"lost": each.lost} if each.lost else {})}
        shown_errors = ", ".join(f"{word} {count:,}" for word, count in errors.items()) or "0"
        unused = "" if each.used else " (not used: another address family answers)"
        lines.append(
            f"  {each.address:<{width}}  {each.connections:>11,}{_number_or_nothing(each.rate):>12}{cells}"
            f"  {shown_errors}{unused}"
        )
    return lines


def _time_or_nothing(microseconds: float | None) -> str:
    return NOTHING if microseconds is None else shown_time(microseconds)


def _number_or_nothing(number: float | None) -> str:
    return NOTHING if number is None else f"{number:,.0f}"


def latency_lines(latency: Histogram) -> list[str]:
    """Minimum, percentiles, maximum and mean."""
    rows = [("min", latency.least)]
    rows += [(f"{p:g} %", v) for p, v in zip(PERCENTILES, latency.percentiles(PERCENTILES), strict=True)]
    rows.append(("max", latency.greatest))
    lines = [f"{name:>9}  {shown_time(value):>9}" for name, value in rows]
    lines.append(f"{'mean':>9}  {shown_time(latency.mean):>9}  ± {shown_time(latency.deviation)}")
    return ["  latency", *lines]


def histogram_lines(latency: Histogram) -> list[str]:
    """The distribution of latencies: a row for each step of 1, 2, 5, 10 … µs, with a bar for its share."""
    counts: dict[int, int] = {}
    for low, _, count in latency.rows():
        row = next((n for n, edge in enumerate(EDGES) if low < edge), len(EDGES))
        counts[row] = counts.get(row, 0) + count
    most = max(counts.values(), default=1)
    lines = []
    for row in range(min(counts, default=0), max(counts, default=-1) + 1):
        count = counts.get(row, 0)
        edge = f"< {shown_time(EDGES[row])}" if row < len(EDGES) else f">= {shown_time(EDGES[-1])}"
        share = f"{count / latency.total:7.2%}"
        lines.append(f"{edge:>12}  {share}  {bar(count / most)}".rstrip())
    return lines


def bar(share: float) -> str:
    """A bar of *share* of the full width; visible unless *share* is 0."""
    eighths = max(round(share * BAR * 8), 1) if share else 0
    return (_EIGHTHS[-1] * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def error_lines(result: Result) -> list[str]:
    """The errors and what is unanswered, or "no errors"."""
    examples = result.examples
    lines = []
    if result.unanswered:
        oldest = f", the oldest for {result.oldest:.1f} s" if result.oldest is not None else ""
        lines.append(f"{result.unanswered:,} unanswered{oldest}")
    lines += [f"{word}: {count:,}; first: {examples.get(word, '')}" for word, count in result.errors.items()]
    if result.lost:
        late = f" ({result.late:,} of them came later)" if result.late else ""
        lines.append(f"lost: {counted(result.lost, 'datagram')}{late}")
    return lines or ["no errors"]


def comparison(results: Sequence[tuple[str, Result]]) -> list[str]:
    """A table of several results, one line for each; where nothing was answered, there are no latencies."""
    width = max(len("result"), *(len(name) for name, _ in results))
    heads = "".join(f"{f'{p:g} %':>10}" for p in COMPARED)
    lines = [f"{'result':<{width}}  {'messages/s':>12}{'answered':>10}{'errors':>10}{heads}{'max':>10}"]
    for name, result in results:
        latency = result.latency
        cells = f"{_number_or_nothing(result.rate):>12}{_share(result):>10}{result.error_count:>10,}"
        if latency.total:
            values = [*latency.percentiles(COMPARED), latency.greatest]
            cells += "".join(f"{shown_time(value):>10}" for value in values)
        else:
            cells += f"{NOTHING:>10}" * (len(COMPARED) + 1)
        lines.append(f"{name:<{width}}  {cells}")
    return lines


def _share(result: Result) -> str:
    """The share of answered messages, rounded down so that only all of them are 100 %."""
    if result.share is None:
        return NOTHING
    return f"{math.floor(result.share * 10_000) / 100:g} %"
