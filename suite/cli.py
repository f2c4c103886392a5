"""The command line: which commands there are; what they do is in `suite.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from suite import __version__
from suite.commands import serve
from suite.commands.options import add_config
from suite.errors import SuiteError

#: The commands, each a module in `suite.commands`, and what ``--help`` says of them.
COMMANDS: Final = {
    "check": "validate the configuration; say what would be bound, bind nothing",
    "certs": "make a development CA, and certificates for a server and a client",
    "probe": "check that every byte comes back, and say what is wrong if not",
    "connect": "talk to a target: line by line, or through a pipe",
    "load": "send many messages, and say how long they took to come back",
}


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The options and commands.

    :param argv: the command line. Only the modules of commands it names are imported.
    """
    parser = argparse.ArgumentParser(
        prog="python -m suite",
        description="Echo servers for TCP, UDP, TLS and UNIX sockets, declared in one file."
        " Without a command: serve.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"echo-suite {__version__}")
    add_config(parser)
    serve.add_arguments(parser)
    parser.set_defaults(run=serve.run)
    commands = parser.add_subparsers(title="commands", metavar="")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, allow_abbrev=False)
        if name in argv:
            module: Any = import_module(f"suite.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*; return the exit code (see `suite.errors`).

    :raises SystemExit: for ``--help``, ``--version`` and a wrong command line, as argparse does.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = build_parser(argv).parse_args(argv)
    try:
        code: int = options.run(options)
    except SuiteError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return code
