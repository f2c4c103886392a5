"""What an endpoint has counted, also where it has many connections."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from typing_extensions import override

from suite.guard.handshakes import HandshakeCounts
from suite.server.counts import SOME, Counts, counts_in_turns, counts_of
from suite.server.pauses import SLICE, Turns


class Slow(Clock):
    """A clock by which a look takes longer than a turn may.

    :ivar turns: how often everything else has had its turn.
    """

    turns = 0

    @override
    def callLater(self, *args: Any, **named: Any) -> Any:
        self.turns += 1
        return super().callLater(*args, **named)

    @override
    def seconds(self) -> float:
        self.rightNow += 2 * SLICE
        return self.rightNow


def endpoint_with(count: int) -> Any:
    """An endpoint with so many open connections, and others that have ended."""
    guard = SimpleNamespace(
        open=dict.fromkeys(map(Connection, range(count))),
        accepted_count=count + 3,
        received=7,
        sent=5,
        ends=Counter(),
        handshake_counts=HandshakeCounts(),
    )
    return SimpleNamespace(guard=guard, datagrams=None, decider=SimpleNamespace(struck=Counter()))


class Connection:
    """One that has received *number* bytes, and sent twice as many."""

    def __init__(self, number: int) -> None:
        self.received, self.sent = number, 2 * number


def in_turns(endpoint: Any, clock: Any) -> Deferred[Counts]:
    return Deferred.fromCoroutine(counts_in_turns(endpoint, Turns(clock)))


def finish(counting: Deferred[Counts], clock: Any) -> None:
    while not counting.called:
        clock.advance(0)


def test_few_are_counted_at_once() -> None:
    endpoint = endpoint_with(SOME)
    clock = Slow()
    assert in_turns(endpoint, clock).result == counts_of(endpoint)
    assert not clock.getDelayedCalls()


def test_many_are_counted_in_turns_and_to_the_same_sum() -> None:
    count = 3 * SOME + 1
    endpoint = endpoint_with(count)
    clock = Slow()
    counting = in_turns(endpoint, clock)
    finish(counting, clock)
    assert clock.turns == 4
    total = sum(range(count))
    assert counting.result == counts_of(endpoint)
    assert (counting.result.received, counting.result.sent) == (total + 7, 2 * total + 5)


def test_one_that_ends_meanwhile_is_counted_once() -> None:
    endpoint = endpoint_with(2 * SOME)
    before = counts_of(endpoint)
    clock = Slow()
    counting = in_turns(endpoint, clock)
    assert not counting.called
    gone = [*endpoint.guard.open][-1]
    del endpoint.guard.open[gone]
    endpoint.guard.received += gone.received
    endpoint.guard.sent += gone.sent
    finish(counting, clock)
    assert counting.result == before
