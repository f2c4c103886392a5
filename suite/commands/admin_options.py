"""The options of commands that ask the admin interface of a running suite.

Rule: next to nothing is imported, because ``health`` is run every few seconds.
"""

from __future__ import annotations

import argparse
from typing import Final

from suite.client.admin.address import Place, configured, parse_address
from suite.commands.options import add_config, default_config, file_path

_HELP: Final = "such as unix:run/admin.sock or tcp:localhost:9901; default: the configuration's"


def add_admin(parser: argparse.ArgumentParser) -> None:
    """``--admin`` and ``--config``: which suite is asked."""
    add_config(parser, default=argparse.SUPPRESS)
    parser.add_argument("--admin", metavar="ADDRESS", help=f"the admin interface, {_HELP}")


def add_token(parser: argparse.ArgumentParser) -> None:
    """``--token-file``: what allows changes over TCP."""
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=file_path,
        help="the file with its token; default: the configuration's",
    )


def place_of(options: argparse.Namespace) -> Place:
    """Where the suite is asked.

    :raises SuiteError: the option means no address, or the configuration has none.
    """
    if options.admin is not None:
        return Place((parse_address(options.admin),))
    return configured(getattr(options, "config", None) or default_config())
