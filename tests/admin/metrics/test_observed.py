"""What a scrape reads, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from typing_extensions import override

from suite.admin.metrics.observed import Observer
from suite.engine.traffic import Traffic
from suite.server.pauses import Turns


class Endpoint:
    """An endpoint on which so many datagrams have come."""

    def __init__(self, name: str, datagrams: int) -> None:
        traffic = Traffic()
        traffic.came = datagrams
        self.description: Any = SimpleNamespace(endpoint=SimpleNamespace(name=name), transport="UDP")
        self.guard = None
        self.datagrams: Any = SimpleNamespace(traffic=traffic, refusals={})
        self.decider: Any = SimpleNamespace(struck={})


class TurnsUntil(Turns):
    """Turns of a client that leaves after some of them."""

    def __init__(self, left: int) -> None:
        self.left = left

    @override
    async def between(self, items: Iterable[Any]) -> AsyncIterator[Any]:
        for item in items:
            if not self.left:
                raise CancelledError
            self.left -= 1
            yield item


@pytest.mark.parametrize("turns", range(5))
def test_a_client_that_leaves_has_nothing_counted_twice_or_never(turns: int) -> None:
    opened: Deferred[None] = Deferred()
    opened.callback(None)
    suite: Any = SimpleNamespace(draining=False, opened=opened, endpoints={}, every_endpoint=[])
    observer = Observer(cast(Any, SimpleNamespace(suite=suite)))

    def received(left: int) -> dict[str, int]:
        observing = Deferred.fromCoroutine(observer.observe(TurnsUntil(left)))
        found: list[Any] = []
        observing.addCallbacks(found.append, lambda why: why.trap(CancelledError))
        seen = found[0].endpoints if found else {}
        return {key.endpoint: each.counts.datagrams_received for key, each in seen.items()}

    suite.every_endpoint = [Endpoint("a", 3), Endpoint("b", 5)]
    assert received(100) == {"a": 3, "b": 5}
    # Others of their names take their places.
    suite.every_endpoint = [Endpoint("a", 10), Endpoint("b", 20)]
    assert received(turns) in ({}, {"a": 13, "b": 25})
    assert received(100) == {"a": 13, "b": 25}
    suite.every_endpoint = [Endpoint("a", 100), Endpoint("b", 200)]
    assert received(turns) in ({}, {"a": 113, "b": 225})
    assert received(100) == {"a": 113, "b": 225}
