"""Serving: what ``python -m suite`` does without a command.

Rule: next to nothing is imported before it is known that this is what is to be done.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from suite.commands.options import add_workers, environment_of, file_path, workers_of
from suite.errors import EXIT_OK
from suite.signals import Signals

if TYPE_CHECKING:
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
        default="info",
        help="debug, info, warn, error or critical; default: info",
    )
    parser.add_argument(
        "--log-file",
        metavar="FILE",
        type=file_path,
        help="append the log to this file, which SIGUSR1 opens again; default: standard error",
    )
    add_workers(parser)
    parser.add_argument(
        "--replay",
        metavar="LOG",
        type=file_path,
        help="give each connection the faults that this log of an earlier run says",
    )


def run(options: argparse.Namespace, signals: Signals) -> int:
    """Serve until a signal ends it; return the exit code.

    :param signals: remembers the signals that have arrived already.
    :raises SuiteError: it cannot.
    """
    from suite.faults.replay import read_log  # noqa: PLC0415  # the slow imports
    from suite.server.plan import Plan  # noqa: PLC0415

    workers = workers_of(options)

    def make_plan() -> Plan:
        replay = read_log(options.replay) if options.replay is not None else None
        environment = environment_of(options.config)
        return Plan(options.config, mint=True, replay=replay, environment=environment, workers=workers)

    return serve(options, make_plan, signals)


def serve(options: argparse.Namespace, make_plan: Callable[[], Plan], signals: Signals) -> int:
    """Serve what *make_plan* returns until a signal ends it; return the exit code.

    :raises SuiteError: it cannot be served.
    """
    from suite.admin import companions  # noqa: PLC0415
    from suite.logs.log import Settings  # noqa: PLC0415
    from suite.server import process  # noqa: PLC0415
    from suite.server.announce import Announcer  # noqa: PLC0415
    from suite.server.service import EchoSuite  # noqa: PLC0415

    settings = Settings(options.log, options.log_level, options.log_file)
    if signals.stopping:
        return EXIT_OK
    plan = make_plan()
    reactor = process.install_reactor(options.reactor)
    announcer = Announcer()

    def make_suite(*arguments: Any) -> EchoSuite:
        if plan.workers > 1:
            return supervisor(*arguments)
        suite = EchoSuite(*arguments)
        companions.add(suite)
        return suite

    def supervisor(*arguments: Any) -> EchoSuite:
        # Whoever has one process shall not wait for what others need.
        from suite.admin.workers.companions import add, attend  # noqa: PLC0415
        from suite.server.workers.supervisor import Supervisor  # noqa: PLC0415

        suite = Supervisor(*arguments, reactor_name=options.reactor, signals=signals.numbers, extend=attend)
        add(suite)
        return suite

    code = process.run(reactor, plan, announcer, settings, make_suite, signals)
    announcer.close()
    return code
