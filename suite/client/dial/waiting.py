"""Waiting with a timeout."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred

from suite.client.dial.failures import TargetError

T = TypeVar("T")


def timeout_error(what: str, seconds: float) -> TargetError:
    """The error for *what*, which did not happen within *seconds*."""
    return TargetError("timeout", f"{what} within {seconds:.3g} s")


async def with_timeout(reactor: Any, seconds: float, late: TargetError, waiting: Deferred[T]) -> T:
    """The result of *waiting*; after *seconds*, *waiting* is cancelled and *late* raised."""
    waiting.addTimeout(seconds, reactor)
    try:
        return await waiting
    except defer.TimeoutError:
        raise late from None


def settle(waiting: Deferred[None] | None, problem: TargetError | None) -> None:
    """Fire *waiting*, or fail it with *problem*; do nothing if nobody waits any more."""
    if waiting is None or waiting.called:
        return
    if problem is None:
        waiting.callback(None)
    else:
        waiting.errback(problem)
