"""The command line: which words there are; what they do is said elsewhere.

``python -m suite --config FILE`` serves; ``certs`` and ``check`` are the other commands.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suite import __version__, certs, logs, service
from suite.errors import EXIT_OK, SuiteError, one_line

DEFAULT_CONFIG = Path("config.toml")


def build_parser() -> argparse.ArgumentParser:
    """The options and commands."""
    parser = argparse.ArgumentParser(
        prog="python -m suite",
        description="Echo servers for TCP, UDP, TLS and UNIX sockets, declared in one file."
        " Without a command: serve.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"echo-suite {__version__}")
    add_config(parser)
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
    parser.set_defaults(run=serve)
    commands = parser.add_subparsers(title="commands", metavar="")
    check = commands.add_parser(
        "check", help="validate the configuration; say what would be bound, bind nothing", allow_abbrev=False
    )
    add_config(check, default=argparse.SUPPRESS)
    check.set_defaults(run=check_config)
    mint = commands.add_parser(
        "certs", help="make a development CA, and certificates for a server and a client", allow_abbrev=False
    )
    mint.add_argument("directory", metavar="DIR", nargs="?", type=Path, default=Path("certs"))
    mint.add_argument("--force", action="store_true", help="replace files that exist")
    mint.set_defaults(run=mint_certs)
    return parser


def add_config(parser: argparse.ArgumentParser, default: Any = DEFAULT_CONFIG) -> None:
    """``--config``, before a command or after it."""
    parser.add_argument("--config", metavar="FILE", type=Path, default=default, help="default: config.toml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*; return the exit code (see `suite.errors`).

    :raises SystemExit: for ``--help``, ``--version`` and a wrong command line, as argparse does.
    """
    options = build_parser().parse_args(argv)
    try:
        code: int = options.run(options)
    except SuiteError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return code


def serve(options: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    log = logs.Settings(options.log, options.log_level)
    plan = service.Plan(options.config, mint=True)
    return service.run(service.install_reactor(options.reactor), plan, say, log)


def check_config(options: argparse.Namespace) -> int:
    """Say what serving would bind."""
    for line in service.Plan(options.config, mint=False).lines():
        say(line)
    return EXIT_OK


def mint_certs(options: argparse.Namespace) -> int:
    """Mint development certificates."""
    for path in certs.mint(options.directory, force=options.force):
        say(f"wrote {certs.shown(path)}")
    say("next: python -m suite --config config.toml")
    return EXIT_OK


def say(line: str) -> None:
    """Show *line* now, also to a pipe; a reader that has gone away is no reason to stop."""
    try:
        print(one_line(line), flush=True)
    except BrokenPipeError:
        # What Python's documentation advises (library/signal.html, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
