"""``load``, the command: from its options to what it prints.

Rules: mistakes in the options, and a plot that could not be written, are found before anything is sent;
with ``--json`` nothing but the result is printed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final

from twisted.internet.defer import CancelledError

from suite.client.dial.dialer import ConnectOptions, Dialer
from suite.client.dial.target import parse_target
from suite.client.load import document, plot, report
from suite.client.load.load import Load
from suite.client.load.options import (
    LEAST_RATE,
    MAX_CONNECTIONS,
    MAX_MESSAGE,
    MAX_RATE,
    MAX_WINDOW,
    MAX_WORKERS,
    Options,
)
from suite.client.load.results import Result, make_result, nothing_sent
from suite.client.load.schedule import Rate
from suite.client.load.series import HistogramLog
from suite.client.run import run_until
from suite.commands.console import say, warn
from suite.commands.options import add_config, duration, file_path, number, size
from suite.commands.reach import TARGET_HELP, add_reach, check_reach, parse_reach
from suite.cores import cores
from suite.errors import EXIT_FAILURE, EXIT_OK, UsageError
from suite.server import process
from suite.text import shown

_RATE = re.compile(r"-?[0-9]+(\.[0-9]+)?")

#: Options that make no sense with ``--compare``.
FOR_A_LOAD: Final = (
    "connections",
    "size",
    "duration",
    "rate",
    "window",
    "warmup",
    "reconnect",
    "workers",
    "hlog",
    "json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``load``."""
    parser.add_argument("target", metavar="TARGET", nargs="?", help=TARGET_HELP)
    add_config(parser, default=argparse.SUPPRESS)
    parser.add_argument("--connections", metavar="N", help="default: 10")
    parser.add_argument("--size", metavar="SIZE", help="size of a message; default: 1KiB")
    parser.add_argument("--duration", metavar="TIME", help="default: 10s")
    parser.add_argument(
        "--rate",
        metavar="N",
        help="total messages a second, each sent when it is due, or FROM..TO for a ramp; default: as fast as"
        " echoes come back",
    )
    parser.add_argument(
        "--window",
        metavar="N",
        help="messages in flight on a connection; default: 1, or as many as it takes with --rate",
    )
    parser.add_argument(
        "--warmup", metavar="TIME", help="send for this long before the duration, without measuring"
    )
    parser.add_argument(
        "--reconnect",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="open broken connections again; default: with --rate",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        help="processes that share the load, or auto: one for each core; default: 1",
    )
    add_reach(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=file_path,
        help="draw percentiles, and latency and rate over time, to FILE.svg or FILE.png",
    )
    parser.add_argument(
        "--hlog",
        metavar="FILE",
        type=file_path,
        help="write an HdrHistogram log: a histogram for each second",
    )
    parser.add_argument(
        "--compare",
        metavar="FILE",
        type=file_path,
        nargs="+",
        help="compare results from --json, instead of loading a target",
    )


def run(options: argparse.Namespace) -> int:
    """Load a target, or compare earlier results; return the exit code.

    :raises SuiteError: an option or the target is wrong, or a file cannot be used.
    """
    if (options.target is None) == (options.compare is None):
        raise UsageError("load: expected either a TARGET or --compare FILE")
    if options.plot is not None:
        plot.check(options.plot)
    if options.compare is not None:
        return _compare(options)
    settings = parse_settings(options)
    reach = parse_reach(options)
    check_reach(reach, settings.target)
    with nullcontext() if options.hlog is None else closing(HistogramLog(options.hlog)) as log:
        result = _load(options, settings, reach, log)
    try:
        _show(result, as_json=options.json)
    finally:
        _draw([(result.target, result)], options.plot, quiet=options.json)
    if log is not None:
        if log.problem is not None:
            raise log.problem
        if not options.json:
            say(f"wrote {shown(options.hlog)}")
    return EXIT_OK if result.ok else EXIT_FAILURE


def _load(
    options: argparse.Namespace, settings: Options, reach: ConnectOptions, log: HistogramLog | None
) -> Result:
    with nullcontext(_ignore) if options.json else report.progress(settings) as show:
        if settings.workers > 1:
            from suite.client.load.workers import Workers  # noqa: PLC0415  # needs fork(2)

            return make_result(settings, Workers(show, log).run(options.reactor, settings, reach))
        reactor = process.install_reactor(options.reactor)
        load = Load(reactor, settings, Dialer(reactor, settings.target, reach), show, log)
        try:
            return make_result(settings, run_until(reactor, load.run, lambda _: load.interrupt()))
        except CancelledError:  # in the reactor's first turn; later, `interrupt` ends it with a result
            return nothing_sent(settings, [], interrupted=True)


def _show(result: Result, *, as_json: bool) -> None:
    """Print *result*; of a load in which nothing was answered, say why in one line."""
    if as_json:
        say(*document.to_json(result).splitlines())
        return
    if result.started is not None:
        say(*report.report(result))
    if not result.messages:
        warn(f"{result.target}: {result.failure}")


def _ignore(_: object) -> None:
    """With ``--json``, progress is not shown."""


def parse_settings(options: argparse.Namespace) -> Options:
    """What the options mean.

    :raises UsageError: one of them has a value that cannot be used.
    """
    connections = number("--connections", options.connections or "10", MAX_CONNECTIONS, least=1)
    return Options(
        target=parse_target(options.target),
        connections=connections,
        size=size("--size", options.size or "1KiB", MAX_MESSAGE),
        duration=duration("--duration", options.duration or "10s"),
        rate=None if options.rate is None else _rate(options.rate),
        window=None if options.window is None else number("--window", options.window, MAX_WINDOW, least=1),
        timeout=duration("--timeout", options.timeout),
        warmup=0.0 if options.warmup is None else duration("--warmup", options.warmup, zero=True),
        reconnect=options.reconnect,
        workers=_workers(options.workers or "1", connections),
    )


def _workers(text: str, connections: int) -> int:
    """The number of processes, each of which has one of the *connections* at least."""
    if text == "auto":
        return min(cores(), connections, MAX_WORKERS)
    count = number("--workers", text, MAX_WORKERS, least=1)
    if count > connections:
        raise UsageError(
            f"--workers {count}: more than --connections {connections}, of which each needs one;"
            f" expected {connections} at most"
        )
    return count


def _compare(options: argparse.Namespace) -> int:
    for name in FOR_A_LOAD:
        if getattr(options, name) not in (None, False):
            raise UsageError(f"--compare reads earlier results; expected no --{name} with it")
    found = [(shown(file), document.read(file)) for file in options.compare]
    say(*report.comparison(found))
    _draw(found, options.plot)
    return EXIT_OK


def _draw(found: Sequence[tuple[str, Result]], file: Path | None, *, quiet: bool = False) -> None:
    if file is not None:
        plot.draw(found, file)
        if not quiet:
            say(f"wrote {shown(file)}")


def _rate(text: str) -> Rate:
    """Messages a second: ``250``, or ``0.5``; or a ramp: ``1000..20000``."""
    start, dots, end = text.partition("..")
    return Rate(_rate_number(text, start), _rate_number(text, end if dots else start))


def _rate_number(text: str, number: str) -> float:
    expected = f"expected {LEAST_RATE:g} to {MAX_RATE} a second, or two such numbers as in 1000..20000"
    if not _RATE.fullmatch(number):
        raise UsageError(f"--rate {text!r} is not a number; {expected}")
    if not LEAST_RATE <= float(number) <= MAX_RATE:
        raise UsageError(f"--rate {text!r} is out of range; {expected}")
    return float(number)
