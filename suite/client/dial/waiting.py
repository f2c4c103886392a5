"""Waiting no longer than one should."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred

from suite.client.dial.failures import TargetError

T = TypeVar("T")


def too_late(what: str, seconds: float) -> TargetError:
    """*what* did not happen within *seconds*."""
    return TargetError("timeout", f"{what} within {seconds:.3g} s")


async def with_timeout(reactor: Any, seconds: float, late: TargetError, waiting: Deferred[T]) -> T:
    """What *waiting* fires with; it is cancelled after *seconds*, and *late* raised."""
    waiting.addTimeout(seconds, reactor)
    try:
        return await waiting
    except defer.TimeoutError:
        raise late from None
