"""``load``, the command: from its options to what it prints.

Rules: mistakes in the options, and a plot that could not be written, are found before anything is sent;
with ``--json`` nothing but the result is printed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from twisted.internet.defer import CancelledError

from suite.client.dial.dialer import Dialer
from suite.client.dial.target import parse_target
from suite.client.load import plot, report, results
from suite.client.load.load import Load
from suite.client.load.options import (
    LEAST_RATE,
    MAX_CONNECTIONS,
    MAX_MESSAGE,
    MAX_RATE,
    MAX_WINDOW,
    LoadError,
    Options,
)
from suite.client.load.results import Result
from suite.client.run import run_until
from suite.commands.console import say
from suite.commands.options import add_config, duration, number, size
from suite.commands.reach import TARGET_HELP, add_reach, check_reach, parse_reach
from suite.errors import EXIT_FAILURE, EXIT_OK, UsageError
from suite.server import process
from suite.text import shown

_RATE = re.compile(r"-?[0-9]+(\.[0-9]+)?")

#: Options that make no sense with ``--compare``.
FOR_A_LOAD: Final = ("connections", "size", "duration", "rate", "window", "json")


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
        help="total messages a second, each sent when it is due; default: as fast as echoes come back",
    )
    parser.add_argument(
        "--window",
        metavar="N",
        help="messages in flight on a connection; default: 1, or as many as it takes with --rate",
    )
    add_reach(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw the percentiles to FILE.svg or FILE.png"
    )
    parser.add_argument(
        "--compare",
        metavar="FILE",
        type=Path,
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
    reactor = process.install_reactor(options.reactor)
    dialer = Dialer(reactor, settings.target, reach)
    with nullcontext(_ignore) if options.json else report.progress(settings) as show:
        load = Load(reactor, settings, dialer, show)
        try:
            result = run_until(reactor, load.run, lambda _: load.interrupt())
        except CancelledError:  # before it began; later, `interrupt` ends it with a result
            raise LoadError(settings.target.text, "interrupted before anything was sent") from None
    for line in results.to_json(result).splitlines() if options.json else report.report(result):
        say(line)
    _draw([(result.target, result)], options.plot, quiet=options.json)
    return EXIT_OK if result.ok else EXIT_FAILURE


def _ignore(_: object) -> None:
    """With ``--json``, progress is not shown."""


def parse_settings(options: argparse.Namespace) -> Options:
    """What the options mean.

    :raises UsageError: one of them has a value that cannot be used.
    """
    return Options(
        target=parse_target(options.target),
        connections=number("--connections", options.connections or "10", MAX_CONNECTIONS, least=1),
        size=size("--size", options.size or "1KiB", MAX_MESSAGE),
        duration=duration("--duration", options.duration or "10s"),
        rate=None if options.rate is None else _rate(options.rate),
        window=None if options.window is None else number("--window", options.window, MAX_WINDOW, least=1),
        timeout=duration("--timeout", options.timeout),
    )


def _compare(options: argparse.Namespace) -> int:
    for name in FOR_A_LOAD:
        if getattr(options, name) not in (None, False):
            raise UsageError(f"--compare reads earlier results; expected no --{name} with it")
    found = [(shown(file), results.read(file)) for file in options.compare]
    for line in report.comparison(found):
        say(line)
    _draw(found, options.plot)
    return EXIT_OK


def _draw(found: Sequence[tuple[str, Result]], file: Path | None, *, quiet: bool = False) -> None:
    if file is not None:
        plot.draw([(name, result.latency) for name, result in found], file)
        if not quiet:
            say(f"wrote {shown(file)}")


def _rate(text: str) -> float:
    """Messages a second: ``250``, or ``0.5``."""
    expected = f"expected {LEAST_RATE:g} to {MAX_RATE} a second"
    if not _RATE.fullmatch(text):
        raise UsageError(f"--rate {text!r} is not a number; {expected}")
    if not LEAST_RATE <= float(text) <= MAX_RATE:
        raise UsageError(f"--rate {text!r} is out of range; {expected}")
    return float(text)
