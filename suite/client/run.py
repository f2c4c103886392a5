"""A reactor that runs as long as one piece of work.

Rules: a reactor runs once; Ctrl-C and SIGTERM end the work early, and are no error; the reactor stops when
the work has ended, whatever it has ended with.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

T = TypeVar("T")


def run_until(
    reactor: Any,
    work: Callable[[], Deferred[T]],
    interrupt: Callable[[Deferred[T]], object] = Deferred.cancel,
) -> T:
    """Run *reactor* until what *work* returns has fired; return what it has fired with.

    :param work: is called when the reactor runs.
    :param interrupt: is called at Ctrl-C and SIGTERM with what *work* has returned, and must make it fire.
    :raises Exception: whatever it has failed with; `CancelledError` where it was interrupted by default.
    """
    results: list[T | Failure] = []
    over: Deferred[None] = Deferred()

    def start() -> None:
        working = work()
        reactor.addSystemEventTrigger("before", "shutdown", stop, working)
        working.addBoth(done)

    def done(result: T | Failure) -> None:
        results.append(result)
        over.callback(None)
        with suppress(ReactorNotRunning):  # it is stopping already
            reactor.stop()

    def stop(working: Deferred[T]) -> Deferred[None]:
        if not over.called:
            interrupt(working)
        return over

    # One turn later, because an asyncio reactor that calls this is not running its loop yet.
    reactor.callWhenRunning(reactor.callLater, 0, start)
    # Started in the background by a shell without job control, we inherit a SIGINT that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reactor.run()
    if not results:  # interrupted in the first turn
        raise CancelledError
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
