"""Work that may take long, or never end, beside the reactor."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def defer_to_daemon(reactor: Any, function: Callable[..., T], *args: object) -> Deferred[T]:
    """Call *function* with *args* in a thread that the end of the process does not wait for.

    The reactor's own threads are waited for, and one that reads from a file system that hangs never ends.
    Where no thread can be had, because of a limit on them, *function* is called here and now.

    :returns: fires in the reactor's thread with the result, or fails with what *function* raised.
    """
    done: Deferred[T] = Deferred()

    def work() -> None:
        try:
            result = function(*args)
        except BaseException:  # noqa: BLE001  # whoever waits for the result deals with it
            reactor.callFromThread(done.errback, Failure())
        else:
            reactor.callFromThread(done.callback, result)

    try:
        Thread(target=work, daemon=True).start()
    except RuntimeError:
        work()
    return done
