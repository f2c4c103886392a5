"""One session with a target, at a terminal or in a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from suite.client.connect.pipe import pipe
from suite.client.dial.dialer import ConnectOptions, Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.target import Target
from suite.client.run import run_until
from suite.errors import EXIT_FAILURE, EXIT_OK


def interactive() -> bool:
    """Whether standard input and output are terminals."""
    return os.isatty(0) and os.isatty(1)


def reactor_name() -> str | None:
    """The name of the reactor that `run_connect` needs; None: any will do."""
    return "asyncio" if interactive() else None  # prompt-toolkit runs on asyncio


def run_connect(
    reactor: Any,
    target: Target,
    reach: ConnectOptions,
    warn: Callable[[str], None],
    *,
    in_hex: bool,
    wait: float | None,
) -> int:
    """Exchange bytes with *target* until the connection ends; return the exit code.

    :param warn: called with a line about what is no error, but should be known.
    :param in_hex: read hexadecimal digits, and show received bytes as a hexadecimal dump.
    :param wait: seconds that the target has after our end; None: as long as it takes.
    :raises TargetError: the connection fails or breaks.
    :raises CertificateError: a file cannot be used.
    """
    dialer = Dialer(reactor, target, reach)

    async def talk() -> None:
        try:
            if interactive():
                from suite.client.connect.prompt import converse  # noqa: PLC0415  # a pipe needs no prompt-toolkit

                await converse(dialer, warn, in_hex=in_hex, wait=wait)
            else:
                await pipe(dialer, warn, in_hex=in_hex, wait=wait)
        except TargetError as error:
            error.target = target.text
            raise

    try:
        run_until(reactor, lambda: Deferred.fromCoroutine(talk()))
    except CancelledError:
        return EXIT_FAILURE
    return EXIT_OK
