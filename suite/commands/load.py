"""``load``, the command: from its options to what it prints.

Rules: whatever is wrong with the options, or with a place to draw to, is found before anything is sent;
with ``--json`` nothing but the result is printed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from suite.certs import shown
from suite.client.dial.dialer import Dialer
from suite.client.dial.target import parse_target
from suite.client.load import plot, report, results
from suite.client.load.load import (
    LEAST_RATE,
    MAX_CONNECTIONS,
    MAX_MESSAGE,
    MAX_RATE,
    MAX_WINDOW,
    Load,
    Options,
    Result,
    run,
)
from suite.client.run import duration, parse_reach, size
from suite.errors import EXIT_FAILURE, EXIT_OK, UsageError

_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

#: What is only for a load.
FOR_A_LOAD: Final = ("connections", "size", "duration", "rate", "window", "json")


def load_or_compare(
    options: argparse.Namespace, install_reactor: Callable[[], Any], say: Callable[[str], None]
) -> int:
    """Do what the command line says; return the exit code.

    :param install_reactor: is called when a reactor is needed.
    :param say: prints a line.
    :raises SuiteError: it cannot be done.
    """
    if (options.target is None) == (options.compare is None):
        raise UsageError("load: expected a TARGET or --compare FILE, one of the two")
    if options.plot is not None:
        plot.check(options.plot)
    if options.compare is not None:
        return _compare(options, say)
    settings = parse_settings(options)
    reach = parse_reach(options)
    reactor = install_reactor()
    dialer = Dialer(reactor, settings.target, reach)
    with nullcontext(_ignore) if options.json else report.progress(settings) as show:
        result = run(reactor, Load(reactor, settings, dialer, show))
    for line in results.to_json(result).splitlines() if options.json else report.report(result):
        say(line)
    _draw([(result.target, result)], options.plot, say=_ignore if options.json else say)
    return EXIT_OK if result.well else EXIT_FAILURE


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


def _compare(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    for name in FOR_A_LOAD:
        if getattr(options, name) not in (None, False):
            raise UsageError(f"--compare: reads what was measured before; expected no --{name} with it")
    found = [(shown(file), results.read(file)) for file in options.compare]
    for line in report.comparison(found):
        say(line)
    _draw(found, options.plot, say)
    return EXIT_OK


def _draw(found: Sequence[tuple[str, Result]], file: Path | None, say: Callable[[str], None]) -> None:
    if file is not None:
        plot.draw([(name, result.latency) for name, result in found], file)
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
