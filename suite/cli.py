"""The command line: which words there are; what they do is said elsewhere.

``python -m suite --config FILE`` serves; the other commands are ``check``, ``certs``, ``probe``,
``connect`` and ``load``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suite import __version__, certs, logs
from suite.errors import EXIT_OK, SuiteError, one_line
from suite.server import service

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
    probe = commands.add_parser(
        "probe", help="check that every byte comes back, and say what is wrong if not", allow_abbrev=False
    )
    probe.add_argument(
        "targets",
        metavar="TARGET",
        nargs="*",
        help="tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH; without any: all of --config",
    )
    add_config(probe, default=argparse.SUPPRESS)
    probe.add_argument("--count", metavar="N", default="5", help="default: 5; 0: until interrupted")
    probe.add_argument("--interval", metavar="TIME", default="200ms", help="default: 200ms")
    probe.add_argument(
        "--size", metavar="SIZE", action="append", help="default: 64; several, with commas, take turns"
    )
    add_reach(probe)
    probe.add_argument("--json", action="store_true", help="print one JSON document instead")
    probe.set_defaults(run=probe_targets)
    connect = commands.add_parser(
        "connect", help="talk to a target: line by line, or through a pipe", allow_abbrev=False
    )
    connect.add_argument(
        "target", metavar="TARGET", help="tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH"
    )
    add_config(connect, default=argparse.SUPPRESS)
    add_reach(connect)
    connect.add_argument("--hex", action="store_true", help="type and show hexadecimal digits")
    connect.set_defaults(run=connect_target)
    add_load(commands)
    return parser


def add_load(commands: Any) -> None:
    """``load``, and its options."""
    load = commands.add_parser(
        "load", help="send many messages, and say how long they took to come back", allow_abbrev=False
    )
    load.add_argument(
        "target", metavar="TARGET", nargs="?", help="tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH"
    )
    add_config(load, default=argparse.SUPPRESS)
    load.add_argument("--connections", metavar="N", help="default: 10")
    load.add_argument("--size", metavar="SIZE", help="of a message; default: 1KiB")
    load.add_argument("--duration", metavar="TIME", help="default: 10s")
    load.add_argument(
        "--rate", metavar="N", help="messages a second in all, sent when due; default: as answers come back"
    )
    load.add_argument(
        "--window",
        metavar="N",
        help="messages on the way on a connection; default: 1, or with --rate as many as it takes",
    )
    add_reach(load)
    load.add_argument("--json", action="store_true", help="print one JSON document instead")
    load.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw the percentiles into FILE.svg or FILE.png"
    )
    load.add_argument(
        "--compare", metavar="FILE", type=Path, nargs="+", help="of results from --json, instead of a load"
    )
    load.set_defaults(run=load_target)


def add_config(parser: argparse.ArgumentParser, default: Any = DEFAULT_CONFIG) -> None:
    """``--config``, before a command or after it."""
    parser.add_argument("--config", metavar="FILE", type=Path, default=default, help="default: config.toml")


def add_reach(parser: argparse.ArgumentParser) -> None:
    """The options that tell how to reach a target."""
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    parser.add_argument("--timeout", metavar="TIME", default="5s", help="for each step; default: 5s")
    parser.add_argument(
        "--ca",
        metavar="FILE",
        type=Path,
        help="trust these roots, too (certs/ca.pem is found by itself, for targets on this machine)",
    )
    parser.add_argument("--cert", metavar="FILE", type=Path, help="show this certificate")
    parser.add_argument("--key", metavar="FILE", type=Path, help="its private key")
    parser.add_argument("--server-name", metavar="NAME", help="ask for, and expect, this name")
    parser.add_argument("--alpn", metavar="NAMES", help="offer these protocols, such as h2,http/1.1")


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


def probe_targets(options: argparse.Namespace) -> int:
    """Probe targets."""
    from suite.client.probe import run as probe  # noqa: PLC0415  # serving needs none of it

    settings = probe.parse_settings(options)
    targets = probe.parse_targets(options, settings, warn)
    reactor = service.install_reactor(options.reactor)
    return probe.run_probe(reactor, targets, settings, say, as_json=options.json)


def connect_target(options: argparse.Namespace) -> int:
    """Talk to a target."""
    from suite.client import run as commands  # noqa: PLC0415  # serving needs none of it
    from suite.client.connect import pipe as connect  # noqa: PLC0415  # serving needs none of it
    from suite.client.dial import target  # noqa: PLC0415  # serving needs none of it

    reach = commands.parse_reach(options)
    where = target.parse_target(options.target)
    reactor = service.install_reactor(options.reactor or connect.reactor_name())
    return connect.run_connect(reactor, where, reach, in_hex=options.hex)


def load_target(options: argparse.Namespace) -> int:
    """Load a target, or compare what earlier loads have measured."""
    from suite.commands import load as load_command  # noqa: PLC0415  # serving needs none of it

    return load_command.load_or_compare(options, lambda: service.install_reactor(options.reactor), say)


def warn(line: str) -> None:
    """Show *line*, which is not what was asked for, on standard error."""
    print(one_line(line), file=sys.stderr)


def say(line: str) -> None:
    """Show *line* now, also to a pipe; a reader that has gone away is no reason to stop."""
    try:
        print(one_line(line), flush=True)
    except BrokenPipeError:
        # What Python's documentation advises (library/signal.html, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
