"""``load``, the command: from its options to what it prints.

Rules: whatever is wrong with the options, or with a place to draw to, is found before anything is sent;
with ``--json`` nothing but the result is printed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from suite.client.dial.dialer import Dialer
from suite.client.dial.target import parse_target
from suite.client.load import plot, report, results
from suite.client.load.load import Load
from suite.client.load.options import LEAST_RATE, MAX_CONNECTIONS, MAX_MESSAGE, MAX_RATE, MAX_WINDOW, Options
from suite.client.load.results import Result
from suite.client.run import run_until
from suite.commands.console import say
from suite.commands.options import TARGET_HELP, add_config, add_reach, duration, parse_reach, size
from suite.errors import EXIT_FAILURE, EXIT_OK, UsageError
from suite.server import process
from suite.text import shown

_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

#: What is only for a load.
FOR_A_LOAD: Final = ("connections", "size", "duration", "rate", "window", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``load``."""
    parser.add_argument("target", metavar="TARGET", nargs="?", help=TARGET_HELP)
    add_config(parser, default=argparse.SUPPRESS)
    parser.add_argument("--connections", metavar="N", help="default: 10")
    parser.add_argument("--size", metavar="SIZE", help="of a message; default: 1KiB")
    parser.add_argument("--duration", metavar="TIME", help="default: 10s")
    parser.add_argument(
        "--rate", metavar="N", help="messages a second in all, sent when due; default: as answers come back"
    )
    parser.add_argument(
        "--window",
        metavar="N",
        help="messages on the way on a connection; default: 1, or with --rate as many as it takes",
    )
    add_reach(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw the percentiles into FILE.svg or FILE.png"
    )
    parser.add_argument(
        "--compare", metavar="FILE", type=Path, nargs="+", help="of results from --json, instead of a load"
    )


def run(options: argparse.Namespace) -> int:
    """Load a target, or compare what earlier loads have measured; return the exit code.

    :raises SuiteError: it cannot be done.
    """
    if (options.target is None) == (options.compare is None):
        raise UsageError("load: expected a TARGET or --compare FILE, one of the two")
    if options.plot is not None:
        plot.check(options.plot)
    if options.compare is not None:
        return _compare(options)
    settings = parse_settings(options)
    reach = parse_reach(options)
    reactor = process.install_reactor(options.reactor)
    dialer = Dialer(reactor, settings.target, reach)
    with nullcontext(_ignore) if options.json else report.progress(settings) as show:
        load = Load(reactor, settings, dialer, show)
        result = run_until(reactor, load.run, lambda _: load.interrupt())
    for line in results.to_json(result).splitlines() if options.json else report.report(result):
        say(line)
    _draw([(result.target, result)], options.plot, quiet=options.json)
    return EXIT_OK if result.ok else EXIT_FAILURE


def _ignore(_: object) -> None:
    """Nobody wants to know."""


def parse_settings(options: argparse.Namespace) -> Options:
    """What the options mean.

    :raises UsageError: one of them has a value that it cannot have.
    """
    return Options(
        target=parse_target(options.target),
        connections=_number("--connections", options.connections or "10", MAX_CONNECTIONS),
        size=size("--size", options.size or "1KiB", MAX_MESSAGE),
        duration=duration("--duration", options.duration or "10s"),
        rate=None if options.rate is None else _rate(options.rate),
        window=None if options.window is None else _number("--window", options.window, MAX_WINDOW),
        timeout=duration("--timeout", options.timeout),
    )


def _compare(options: argparse.Namespace) -> int:
    for name in FOR_A_LOAD:
        if getattr(options, name) not in (None, False):
            raise UsageError(f"--compare: reads what was measured before; expected no --{name} with it")
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


def _number(option: str, text: str, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= largest):
        raise UsageError(f"{option} {text!r} is out of range; expected 1 to {largest}")
    return int(text)


def _rate(text: str) -> float:
    """Messages a second: ``250``, or ``0.5``."""
    if not _RATE.fullmatch(text) or not LEAST_RATE <= float(text) <= MAX_RATE:
        raise UsageError(f"--rate {text!r} is out of range; expected {LEAST_RATE:g} to {MAX_RATE} a second")
    return float(text)
