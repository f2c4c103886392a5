"""``health``: whether a running suite is well, for probes that execute something.

Rules: it starts fast, since Kubernetes may run it every second: neither Twisted nor rich is imported; it ends
in time, whatever the suite does; an exit code of 1 says that the suite is not well, or does not answer.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from suite.client.admin.interface import Interface
from suite.client.admin.unreachable import UnreachableError
from suite.commands.admin_options import add_admin, place_of
from suite.commands.console import say
from suite.commands.options import duration
from suite.errors import EXIT_FAILURE, EXIT_OK

#: Seconds that the answer may take: those of Kubernetes' `timeoutSeconds`, unless that says otherwise.
DEFAULT_TIMEOUT: Final = "1s"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``health``."""
    add_admin(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--ready",
        dest="path",
        action="store_const",
        const="/readyz",
        default="/healthz",
        help="whether all endpoints are open and it is not about to end; default: whether it answers at all",
    )
    which.add_argument(
        "--startup",
        dest="path",
        action="store_const",
        const="/startupz",
        help="whether it has started",
    )
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        default=DEFAULT_TIMEOUT,
        help=f"how long the answer may take; default: {DEFAULT_TIMEOUT}",
    )


@contextmanager
def _at_the_latest(seconds: float) -> Iterator[None]:
    """End what is done in the block with `TimeoutError` when *seconds* have passed, in however many steps."""

    def late(*_: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(options: argparse.Namespace) -> int:
    """Print ``ok``, or why it is not; return the exit code.

    :raises SuiteError: the suite cannot be asked.
    """
    seconds = duration("--timeout", options.timeout)
    with Interface(place_of(options), timeout=seconds) as interface:
        address = str(interface.address)
        try:
            with _at_the_latest(seconds):
                reply = interface.reply(options.path)
        except TimeoutError:
            raise UnreachableError(address, f"no answer within {seconds:g} s") from None
        if reply.kind == "application/problem+json":
            interface.read(reply)
    lines = [line for line in reply.text.splitlines() if line]
    if reply.kind != "text/plain" or reply.status not in (200, 503) or not lines:
        raise UnreachableError(
            address, f"it does not answer {options.path} as a suite does; expected that of a running suite"
        )
    say(*lines)
    return EXIT_OK if reply.status == 200 else EXIT_FAILURE
