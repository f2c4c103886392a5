"""``gallery``: bad TLS on ports of its own, without a configuration; ``gallery score`` judges a client."""

from __future__ import annotations

import argparse
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from suite.commands.options import file_path
from suite.commands.serve import serve
from suite.config.gallery import BELOW, DEFAULT_PORTS, GalleryTable, is_domain
from suite.errors import UsageError
from suite.signals import Signals
from suite.text import is_address

#: What judges clients.
SCORE: Final = "suite.commands.gallery_score"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gallery``, and its commands."""
    parser.set_defaults(command=None)
    parser.add_argument(
        "--ports",
        metavar="PORT",
        default=str(DEFAULT_PORTS),
        help=f"the first specimen's; the others count up; 0: any free ports; default: {DEFAULT_PORTS}",
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="the address to bind; default: 127.0.0.1"
    )
    parser.add_argument(
        "--domain",
        metavar="NAME",
        default="localhost",
        help="what follows a specimen's name; default: localhost",
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        type=file_path,
        help="where to write the CA's certificate; default: a temporary file",
    )
    commands = parser.add_subparsers(title="commands", metavar="[COMMAND]", dest="command")
    command = commands.add_parser("score", help="run a client against all of it, and say what it got wrong")
    command.set_defaults(parser=command)
    _score().add_arguments(command)


def _score() -> Any:
    return import_module(SCORE)


def run(options: argparse.Namespace) -> int:
    """Serve the gallery until a signal ends it; return the exit code.

    :raises SuiteError: it cannot be served.
    """
    if options.command == "score":
        code: int = _score().run(options)
        return code
    ports = options.ports
    if not ports.isdecimal() or not (int(ports) == 0 or BELOW < int(ports) <= 65_535):
        raise UsageError(
            f"--ports {ports!r} cannot be used; expected {BELOW + 1} to 65535, such as {DEFAULT_PORTS}, or 0"
        )
    if not is_address(options.host):
        raise UsageError(f"--host {options.host!r} is not an address; expected one such as 127.0.0.1")
    domain = options.domain.lower()
    if not is_domain(domain):
        raise UsageError(f"--domain {options.domain!r} is not a domain; expected one such as localhost")
    with tempfile.TemporaryDirectory(prefix="gallery-") as directory:
        ca = options.ca if options.ca is not None else Path(directory, "ca.pem")
        return _serve(GalleryTable(int(ports), options.host, domain, ca=ca.absolute()), options)


def _serve(table: GalleryTable, options: argparse.Namespace) -> int:
    from suite.config.file import Config  # noqa: PLC0415  # the slow imports
    from suite.server.plan import FixedPlan  # noqa: PLC0415

    return serve(options, lambda: FixedPlan(Config(Path("gallery"), (), gallery=table)), Signals())
