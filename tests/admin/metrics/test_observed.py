"""What a scrape reads, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from typing_extensions import override

from suite.admin.metrics.observed import Observer
from suite.engine.traffic import Traffic
from suite.server.pauses import Turns
from suite.server.tally import Tally


class Endpoint:
    """An endpoint on which so many datagrams have come."""

    def __init__(self, name: str, datagrams: int) -> None:
        self.description: Any
        self.call(name)
        self.guard = None
        self.datagrams: Any = SimpleNamespace(traffic=Traffic(), refusals={})
        self.decider: Any = SimpleNamespace(struck={})
        self.come(datagrams)

    def come(self, datagrams: int) -> None:
        self.datagrams.traffic.came += datagrams

    def call(self, name: str) -> None:
        self.description = SimpleNamespace(endpoint=SimpleNamespace(name=name), transport="UDP")


class Interrupted(Turns):
    """Turns, before one of which something else happens."""

    def __init__(self, before: int, happens: Callable[[], object]) -> None:
        self.before = before
        self.happens = happens

    @override
    async def between(self, items: Iterable[Any]) -> AsyncIterator[Any]:
        for item in items:
            if not self.before:
                self.happens()
            self.before -= 1
            yield item


class Suite:
    """A suite of endpoints that reloads change."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.draining = False
        self.opened: Deferred[None] = Deferred()
        self.opened.callback(None)
        self.endpoints: dict[str, Any] = {}
        self.every_endpoint = [*endpoints]
        self.tally = Tally()
        self.observer = Observer(cast(Any, SimpleNamespace(suite=self)))

    def read(self, before: int = -1, happens: Callable[[], object] = lambda: None) -> dict[str, int]:
        """The datagrams of each name, while something *happens*."""
        observing = Deferred.fromCoroutine(self.observer.observe(Interrupted(before, happens)))
        found: list[Any] = []
        observing.addCallback(found.append)
        [snapshot] = found
        assert not self.tally._readings
        return {key.endpoint: each.counts.datagrams_received for key, each in snapshot.endpoints.items()}

    def replace(self, old: Endpoint, new: Endpoint) -> None:
        """*new* has taken the place of *old*, which is gone."""
        self.every_endpoint = [new if each is old else each for each in self.every_endpoint]
        self.tally.settle(cast(Any, old))

    def swap(self) -> None:
        """The endpoints swap their names, and go on."""
        names = [each.description.endpoint.name for each in self.every_endpoint]
        for each, name in zip(self.every_endpoint, reversed(names), strict=True):
            self.tally.settle(cast(Any, each))
            each.call(name)
            each.come(1000)


@pytest.mark.parametrize("when", range(3))
def test_an_endpoint_that_is_replaced_is_counted_once(when: int) -> None:
    old = [Endpoint("a", 3), Endpoint("b", 5)]
    suite = Suite(*old)
    new = [Endpoint("a", 10), Endpoint("b", 20)]

    def reload() -> None:
        for one, other in zip(old, new, strict=True):
            suite.replace(one, other)

    assert suite.read(when, reload) == {"a": 3, "b": 5}
    if when == 2:  # there are two turns
        reload()
    assert suite.read() == {"a": 13, "b": 25}
    assert suite.read() == {"a": 13, "b": 25}


@pytest.mark.parametrize("when", range(2))
def test_endpoints_that_swap_their_names_leave_the_counts_with_these(when: int) -> None:
    suite = Suite(Endpoint("a", 3), Endpoint("b", 500))
    assert suite.read(when, suite.swap) == {"a": 3, "b": 500}
    assert suite.read() == {"a": 1003, "b": 1500}
    assert suite.read(when, suite.swap) == {"a": 1003, "b": 1500}
    assert suite.read() == {"a": 2003, "b": 2500}


def test_a_name_that_comes_back_goes_on() -> None:
    suite = Suite(Endpoint("a", 3))
    [old] = suite.every_endpoint
    suite.every_endpoint = []
    suite.tally.settle(cast(Any, old))
    assert suite.read() == {}
    suite.every_endpoint = [Endpoint("a", 4)]
    assert suite.read() == {"a": 7}
