"""Run a reactor until one piece of work is done.

Rules: a reactor can run only once; Ctrl-C and SIGTERM interrupt the work, and the reactor waits for its end;
the reactor stops when the work has ended, successfully or not.

A signal is noted at once (`suite.signals.arrived`), since the reactor may be waiting for a reader.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from suite.engine.clock import use_monotonic_clock
from suite.signals import arrived

T = TypeVar("T")


def run_until(
    reactor: Any,
    work: Callable[[], Deferred[T]],
    interrupt: Callable[[Deferred[T]], object] = Deferred.cancel,
) -> T:
    """Run *reactor*, on a monotonic clock, until the Deferred from *work* fires; return its result.

    :param work: starts the work; called once the reactor is running.
    :param interrupt: called with the Deferred on each Ctrl-C and SIGTERM; must make it fire soon. By default,
        the Deferred is cancelled.
    :raises CancelledError: the work was cancelled, or interrupted before it began.
    :raises Exception: any other exception that the work failed with.
    """
    use_monotonic_clock(reactor)
    results: list[T | Failure] = []
    running: list[Deferred[T]] = []  # the work
    over: Deferred[None] = Deferred()

    def start() -> None:
        # Twisted's own handlers log an error with a traceback when the second signal comes. The work may have
        # handlers of its own, which call these.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupted)
        working = work()
        reactor.addSystemEventTrigger("before", "shutdown", stop, working)
        running.append(working)
        working.addBoth(done)

    def done(result: T | Failure) -> None:
        results.append(result)
        over.callback(None)
        with suppress(ReactorNotRunning):  # the reactor is stopping already
            reactor.stop()

    def stop(working: Deferred[T]) -> Deferred[None]:
        if not over.called:
            interrupt(working)
        return over

    def interrupted(number: int, _frame: object) -> None:
        arrived.append(number)
        reactor.callFromThread(signalled)

    def signalled() -> None:
        try:
            reactor.stop()  # calls `stop` above
        except ReactorNotRunning:  # it is stopping already: not the first signal
            for working in running:
                stop(working)

    # One turn later, because an asyncio reactor runs these calls before its loop runs.
    reactor.callWhenRunning(reactor.callLater, 0, start)
    # A shell without job control starts background processes with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reactor.run()
    if not results:  # interrupted in the first turn
        raise CancelledError
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
