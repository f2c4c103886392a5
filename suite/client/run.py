"""What the clients' commands share: a run from a coroutine to its end, and what options mean.

Rules: a reactor runs once; Ctrl-C and SIGTERM end what is under way, and are no error.
"""

from __future__ import annotations

import argparse
import re
import signal
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from suite.client.dial.dialer import ConnectOptions
from suite.client.dial.tls import TLSOptions, check_options
from suite.config.file import SIZES, UNITS
from suite.errors import UsageError

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|)")
_SIZE: Final = re.compile(r"([0-9]+)(B|KiB|MiB|)")


def run(reactor: Any, work: Coroutine[Deferred[Any], Any, None]) -> None:
    """Run *reactor* until *work* is done, or cancelled by a signal.

    :raises Exception: whatever *work* raises.
    """
    failures: list[Failure] = []

    def start() -> None:
        working = Deferred.fromCoroutine(work)
        reactor.addSystemEventTrigger("before", "shutdown", working.cancel)
        working.addErrback(failures.append).addBoth(lambda _: stop())

    def stop() -> None:
        if reactor.running:
            reactor.callLater(0, lambda: reactor.running and reactor.stop())

    # Later than that, because an asyncio reactor that calls this is not running its loop yet.
    reactor.callWhenRunning(reactor.callLater, 0, start)
    # Started in the background by a shell without job control, we inherit a SIGINT that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reactor.run()
    for failure in failures:
        if not failure.check(CancelledError):
            failure.raiseException()


def duration(option: str, text: str, *, zero: bool = False) -> float:
    """The seconds that *text* means: ``250ms``, ``10s``, ``5m``, or a number of seconds.

    :param zero: whether none at all is a duration, too.
    :raises UsageError: it is no duration.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * UNITS[found[2] or "s"] if found else -1.0
    if not (0 <= seconds <= 86400) or (seconds == 0 and not zero):
        raise UsageError(f"{option} {text!r} is no duration; expected one such as 250ms, 10s or 5m")
    return seconds


def size(option: str, text: str, largest: int) -> int:
    """The bytes that *text* means: ``64``, ``64KiB``, ``1MiB``.

    :raises UsageError: it is no size, or above *largest*.
    """
    found = _SIZE.fullmatch(text)
    if found is None or len(text) > 20:
        raise UsageError(f"{option} {text!r} is no size; expected one such as 64, 64KiB or 1MiB")
    value = int(found[1]) * SIZES[found[2] or "B"]
    if value > largest:
        raise UsageError(f"{option} {text!r} is out of range; expected {largest} at the most")
    return value


def number(option: str, text: str, largest: int) -> int:
    """The number that *text* is, 0 to *largest*.

    :raises UsageError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= largest):
        raise UsageError(f"{option} {text!r} is out of range; expected 0 to {largest}")
    return int(text)


def parse_reach(options: argparse.Namespace) -> ConnectOptions:
    """What those options mean that tell how to reach a target.

    :raises UsageError: one of them has a value that it cannot have.
    """
    tls = TLSOptions(
        ca=options.ca,
        certificate=options.cert,
        key=options.key,
        server_name=options.server_name,
        alpn=tuple(options.alpn.split(",")) if options.alpn else (),
        directories=(options.config.absolute().parent, Path.cwd()),
    )
    check_options(tls)
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(options.family, socket.AF_UNSPEC)
    return ConnectOptions(family, duration("--timeout", options.timeout), tls)
