"""One document of several, without any process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.admin.workers import merging

NAMES = st.sampled_from(["a", "b", "c"])
COUNTS = st.dictionaries(NAMES, st.integers(0, 5))
HANDSHAKES = st.lists(
    st.fixed_dictionaries({"version": NAMES, "resumed": st.booleans(), "count": st.integers(1, 5)}),
    unique_by=lambda each: (each["version"], each["resumed"]),
    max_size=3,
)
DOCUMENTS = st.fixed_dictionaries({"open": st.integers(0, 5), "ended": COUNTS, "by": HANDSHAKES})


def counts(opened: int = 0, **ended: int) -> dict[str, Any]:
    """What an endpoint, or a suite, has counted."""
    return {
        "connections": {
            "open": opened,
            "accepted": opened + sum(ended.values()),
            "ended": ended,
            "refused": {},
        },
        "bytes": {"received": 10 * opened, "sent": 0},
        "datagrams": {"received": 0, "answered": 0, "unanswered": {}},
        "handshakes": {"completed": 0, "resumed": 0, "by": [], "failed": {}},
        "struck": {},
    }


# Counts.


def flat(document: dict[str, Any]) -> dict[tuple[object, ...], int]:
    """Each number of *document*, by where it stands."""
    found: dict[tuple[object, ...], int] = {("open",): document["open"]}
    found |= {("ended", key): count for key, count in document["ended"].items()}
    return found | {("by", each["version"], each["resumed"]): each["count"] for each in document["by"]}


@given(one=DOCUMENTS, other=DOCUMENTS)
def test_every_number_is_the_sum_of_those_in_its_place(one: dict[str, Any], other: dict[str, Any]) -> None:
    total, first, second = flat(merging.added(one, other)), flat(one), flat(other)
    assert total == {key: first.get(key, 0) + second.get(key, 0) for key in {**first, **second}}


def test_what_is_not_known_of_one_is_not_known_of_all() -> None:
    assert merging.added({"open": 3, "limit": None}, {"open": 4, "limit": 10}) == {"open": 7, "limit": None}


def test_the_total_has_nothing_but_counts() -> None:
    one, other = {**counts(2, closed=1), "name": "tcp"}, {**counts(3, closed=2, reset=1), "name": "tcp"}
    total = merging.total([one, other])
    assert total.keys() == counts().keys()
    assert total["connections"] == {
        "open": 5,
        "accepted": 9,
        "ended": {"closed": 3, "reset": 1},
        "refused": {},
    }
    assert total["bytes"]["received"] == 50


# Health.


@pytest.mark.parametrize(
    ("answers", "own", "late", "expected"),
    [
        ({1: [], 2: []}, [], [], []),
        ({1: ["tcp: paused"], 2: ["tcp: paused"]}, ["tcp: paused"], [], ["tcp: paused"]),
        ({1: ["tcp: paused"], 2: ["tcp: paused"]}, [], [], ["tcp: paused"]),
        ({1: [], 2: ["tcp: dead"]}, [], [], ["worker 2: tcp: dead"]),
        (
            {1: ["tcp: paused"], 2: ["tcp: paused", "udp: dead"]},
            [],
            [],
            ["tcp: paused", "worker 2: udp: dead"],
        ),
        ({1: []}, [], [2], ["worker 2: does not answer"]),
        ({1: []}, [], [], []),  # worker 2 is about to be replaced
        ({}, [], [1, 2], ["worker 1: does not answer", "worker 2: does not answer"]),
        ({}, [], [], ["no worker serves"]),
        ({}, ["tcp: paused"], [], ["tcp: paused", "no worker serves"]),
    ],
)
def test_reasons(answers: Any, own: list[str], late: list[int], expected: list[str]) -> None:
    assert merging.reasons(answers, own, late) == expected


def test_of_many_reasons_a_few_are_told() -> None:
    reasons = [f"endpoint-{number}: paused" for number in range(50)]
    assert merging.reasons({1: reasons, 2: []})[-1] == "and 30 more"


# The suite.


def status(**others: Any) -> dict[str, Any]:
    """What one process says of itself."""
    return {
        "version": "1",
        "pid": 1,
        "state": "serving",
        "endpoints": 2,
        "leaving": 0,
        "paused": [],
        "not_served": [],
        **counts(),
        "descriptors": {"open": 10, "limit": 100},
        "reactor": {"name": "EngineReactor", "timers": 3, "lag": None},
        "log": {"suppressed": 1, "lost": 0},
        "certificates": [],
        **others,
    }


def test_the_suite_is_the_sum_of_its_workers_and_of_those_before_them() -> None:
    lag = {"p50": 0.001, "p99": 0.5, "max": 0.5}
    one = status(pid=2, **counts(2, closed=1), reactor={"name": "x", "timers": 3, "lag": lag})
    slow = {"p50": 0.002, "p99": 0.1, "max": 0.9}
    full = {"open": 70, "limit": 100}
    other = status(
        pid=3, leaving=1, **counts(1), descriptors=full, reactor={"name": "x", "timers": 4, "lag": slow}
    )
    whole = merging.status({1: one, 2: other}, status(certificates=["one"]), counts(0, closed=10))
    assert whole["pid"] == 1
    assert whole["connections"]["accepted"] == 14
    assert whole["connections"]["ended"] == {"closed": 11}
    assert whole["leaving"] == 1
    assert whole["descriptors"] == {"open": 70, "limit": 100}
    assert whole["log"] == {"suppressed": 3, "lost": 0}
    assert whole["reactor"] == {
        "name": "EngineReactor",
        "timers": 7,
        "lag": {"p50": 0.002, "p99": 0.5, "max": 0.9},
    }
    assert whole["certificates"] == ["one"]


def test_a_suite_none_of_whose_workers_answers_is_what_the_supervisor_knows() -> None:
    whole = merging.status({}, status(), counts(0, closed=10))
    assert whole["connections"]["ended"] == {"closed": 10}
    assert whole["endpoints"] == 2
    assert whole["descriptors"] == {"open": 10, "limit": 100}
    assert whole["reactor"]["lag"] is None


def test_what_only_a_silent_worker_could_say_is_not_known() -> None:
    lag = {"p50": 0.001, "p99": 0.5, "max": 0.5}
    one = status(pid=2, **counts(2), reactor={"name": "x", "timers": 3, "lag": lag})
    whole = merging.status({1: one}, status(), counts(0, closed=10), late=7)
    assert whole["connections"] == {"open": 9, "accepted": 12, "ended": {"closed": 10}, "refused": {}}
    assert whole["descriptors"] == {"open": None, "limit": 100}
    assert whole["reactor"] == {"name": "EngineReactor", "timers": None, "lag": None}
    assert whole["log"] == {"suppressed": None, "lost": None}


# Endpoints.


def entry(name: str, opened: int = 0, state: str = "serving", listen: str = "tcp:1") -> dict[str, Any]:
    """An endpoint."""
    return {"name": name, "transport": "TCP", "state": state, "listen": listen, **counts(opened)}


def page(*entries: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    """A page of endpoints."""
    return {"endpoints": [*entries], "next": following}


def no_past(_name: str, _transport: str) -> None:
    return None


def opened(entries: Iterable[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(each["name"], each["state"], each["connections"]["open"]) for each in entries]


def test_an_endpoint_is_in_the_list_once() -> None:
    pages = [
        page(entry("a"), entry("b")),
        page(entry("a", 1), entry("b", 2)),
        page(entry("a", 3), entry("b")),
    ]
    shown, following = merging.endpoints(pages, 10, no_past)
    assert opened(shown) == [("a", "serving", 4), ("b", "serving", 2)]
    assert following is None


def test_one_that_leaves_is_another_than_its_namesake_and_may_be_left_in_one_worker_only() -> None:
    past = counts(0, closed=7)
    pages = [
        page(entry("a", listen="tcp:2")),
        page(entry("a", 1, "leaving"), entry("a", 2, listen="tcp:2")),
        page(entry("a", 3, listen="tcp:2"), entry("b", 1, "leaving")),
    ]
    merged, _ = merging.endpoints(pages, 10, lambda name, _: past if name == "a" else None)
    shown = [*merged]
    assert opened(shown) == [("a", "serving", 5), ("a", "leaving", 1), ("b", "leaving", 1)]
    assert [each["connections"]["ended"] for each in shown] == [{"closed": 7}, {}, {}]


def test_connections_of_silent_workers_are_counted_once() -> None:
    pages = [page(entry("a", 1, "leaving"), entry("a", 2, listen="tcp:2"))]
    merged, _ = merging.endpoints(pages, 10, no_past, {"a": 5}.__getitem__)
    assert opened(merged) == [("a", "serving", 7), ("a", "leaving", 1)]
    assert merging.endpoint([entry("a", 2)], None, 5)["connections"]["open"] == 7


def test_paused_in_one_is_paused() -> None:
    assert merging.endpoint([entry("a"), entry("a", state="paused")], None)["state"] == "paused"


def names_by_pages(lists: list[list[str]], limit: int) -> list[str]:
    """The names that a client gets that asks for all pages, of workers that have these endpoints."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        pages = []
        for names in lists:
            rest = sorted(name for name in names if name > after)
            some = rest[:limit]
            pages.append(page(*map(entry, some), following=some[-1] if len(rest) > limit else None))
        merged, after = merging.endpoints(pages, limit, no_past)
        shown = [*merged]
        assert len(shown) <= limit
        found += [each["name"] for each in shown]
    return found


@given(
    lists=st.lists(st.lists(st.text("abc", min_size=1, max_size=3), unique=True), min_size=1, max_size=3),
    limit=st.integers(1, 4),
)
def test_the_pages_of_endpoints_have_each_once_in_order(lists: list[list[str]], limit: int) -> None:
    assert names_by_pages(lists, limit) == sorted({name for names in lists for name in names})


# Connections.


def connections_by_pages(lists: list[list[tuple[str, int]]], limit: int) -> list[tuple[str, int, int]]:
    """The connections that a client gets that asks for all pages, of workers that have these."""
    found: list[tuple[str, int, int]] = []
    after: str | None = "/0"
    while after is not None:
        name, _, number = after.rpartition("/")
        pages = {}
        for worker, every in enumerate(lists, start=1):
            rest = sorted(each for each in every if each > (name, int(number)))
            some = [{"id": f"{a}/{b}", "endpoint": a, "number": b} for a, b in rest[:limit]]
            # A worker may not know yet whether there are more.
            pages[worker] = {"connections": some, "next": some[-1]["id"] if len(some) == limit else None}
        shown, after = merging.connections(pages, limit)
        assert len(shown) <= limit
        found += [(each["endpoint"], each["number"], each["worker"]) for each in shown]
    return found


@given(
    every=st.dictionaries(
        st.tuples(st.text("ab-", min_size=1, max_size=2), st.integers(1, 12)), st.integers(0, 2)
    ),
    limit=st.integers(1, 4),
)
def test_the_pages_of_connections_have_each_once_in_order(
    every: dict[tuple[str, int], int], limit: int
) -> None:
    lists = [[key for key, worker in every.items() if worker == each] for each in range(3)]
    expected = sorted((name, number, worker + 1) for (name, number), worker in every.items())
    assert connections_by_pages(lists, limit) == expected
