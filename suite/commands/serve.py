"""Serving: what ``python -m suite`` does without a command."""

from __future__ import annotations

import argparse

from suite import logs
from suite.commands.console import announce
from suite.server import process
from suite.server.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of serving."""
    parser.add_argument(
        "--reactor", metavar="NAME", help="a Twisted reactor: select, poll, epoll, asyncio, …"
    )
    parser.add_argument(
        "--log", metavar="FORMAT", help="text or json; default: text on a terminal, json elsewhere"
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        default=logs.DEFAULT.level,
        help="debug, info, warn, error or critical; default: info",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it; return the exit code.

    :raises SuiteError: it cannot.
    """
    settings = logs.Settings(options.log, options.log_level)
    plan = Plan(options.config, mint=True)
    return process.run(process.install_reactor(options.reactor), plan, announce, settings)
