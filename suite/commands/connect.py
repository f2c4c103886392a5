"""``connect``: talk to a target."""

from __future__ import annotations

import argparse

from suite.client.connect.session import reactor_name, run_connect
from suite.client.dial.target import parse_target
from suite.commands.console import warn
from suite.commands.options import add_config, duration
from suite.commands.reach import TARGET_HELP, add_reach, add_starttls, check_reach, parse_reach
from suite.server import process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``connect``."""
    parser.add_argument("target", metavar="TARGET", help=TARGET_HELP)
    add_config(parser, default=argparse.SUPPRESS)
    add_reach(parser)
    add_starttls(parser)
    parser.add_argument("--hex", action="store_true", help="type and show hexadecimal digits")
    parser.add_argument(
        "--wait",
        metavar="TIME",
        help="end this long after the input has; default: when the target does",
    )


def run(options: argparse.Namespace) -> int:
    """Talk to the target until either side has ended; return the exit code.

    :raises SuiteError: there is no connection, or it breaks.
    """
    reach = parse_reach(options)
    target = parse_target(options.target)
    wait = None if options.wait is None else duration("--wait", options.wait, zero=True)
    check_reach(reach, target)
    reactor = process.install_reactor(options.reactor or reactor_name())
    return run_connect(reactor, target, reach, warn, in_hex=options.hex, wait=wait)
