"""``check``: what serving would bind, without binding it."""

from __future__ import annotations

import argparse

from suite.commands.console import say
from suite.commands.options import add_config, add_workers, environment_of, workers_of
from suite.errors import EXIT_OK
from suite.server.pauses import without_collections
from suite.server.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``check``."""
    add_config(parser, default=argparse.SUPPRESS)
    add_workers(parser)


def run(options: argparse.Namespace) -> int:
    """Print what serving would bind; return the exit code.

    :raises ConfigError: the configuration is wrong.
    """
    file, workers = options.config, workers_of(options)
    with without_collections():
        plan = Plan(file, mint=False, environment=environment_of(file), workers=workers)
    say(*plan.lines())
    return EXIT_OK
