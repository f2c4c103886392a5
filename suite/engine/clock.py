"""Monotonic time for Twisted's reactors.

`ReactorBase.seconds` is ``time.time``: set the system's clock back an hour, and for an hour no timer fires;
set it forward, and every connection is idle at once. Every reactor computes its delays from that one method,
also those that leave the waiting to another loop (asyncio's own clock is monotonic). So it is replaced on
the reactor, and nothing else is.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from twisted.internet.base import ReactorBase


def use_monotonic_clock(reactor: Any) -> None:
    """Make *reactor* measure time by the monotonic clock; what is scheduled already keeps its delay.

    A reactor that is not Twisted's, such as one in memory, keeps the clock that it has; so does one that is
    monotonic already.
    """
    if not isinstance(reactor, ReactorBase) or reactor.seconds is monotonic:
        return
    shift = monotonic() - reactor.seconds()
    reactor.seconds = monotonic
    # All by the same amount, so that the heap stays in order; cancelled calls, which
    # `IReactorTime.getDelayedCalls` omits, are in it, too.
    for call in (*reactor._pendingTimedCalls, *reactor._newTimedCalls):  # noqa: SLF001
        call.time += shift
        call.seconds = monotonic
