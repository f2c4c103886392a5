"""`suite.guard.shared`: what workers count together; here, each view stands for a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

if sys.platform != "linux":
    pytest.skip("workers are for Linux", allow_module_level=True)

from suite.config.limits import Limits, address_of, source_of
from suite.guard.shared import ROOM, SLOTS, WINDOW, EndpointShare, Numbers, Shared, make_counter
from suite.reasons import Reason
from tests.guard import hammering
from tests.guard.endpoint import LOOPBACK, PEER, GuardedEndpoint, disconnect

OTHER = IPv4Address("TCP", "192.0.2.2", 40000)

WORKERS = 3


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared(WORKERS, sources=256)
    yield made
    made.close()


@pytest.fixture
def counter() -> Iterator[int]:
    made = make_counter()
    yield made
    os.close(made)


@pytest.fixture
def shares(shared: Shared, counter: int) -> list[EndpointShare]:
    """The endpoint in slot 0, as each worker has it."""
    return [shared.of(number).endpoint(0, counter) for number in range(1, WORKERS + 1)]


Serve = Callable[..., list[GuardedEndpoint]]


@pytest.fixture
def serve(shares: list[EndpointShare], make_endpoint: type[GuardedEndpoint]) -> Serve:
    """Serves that endpoint in each worker."""

    def serve(limits: Limits, **options: bool) -> list[GuardedEndpoint]:
        endpoints = []
        for share in shares:
            endpoint = make_endpoint(limits, **options)
            endpoint.guard.share_with(share)
            endpoints.append(endpoint)
        return endpoints

    return serve


def test_the_limit_on_connections_is_for_all_workers(serve: Serve) -> None:
    one, two, three = serve(Limits(connections=4))
    first, _ = one.connect()
    for endpoint in (two, three, one):
        endpoint.connect()
    assert [endpoint.refused(OTHER) for endpoint in (one, two, three)] == [True] * 3
    disconnect(first)
    three.connect(OTHER)
    assert one.refused(OTHER)
    assert one.guard.ends == {Reason.CONNECTIONS: 2, Reason.CLOSED: 1}
    assert [len(endpoint.guard.open) for endpoint in (one, two, three)] == [1, 1, 2]


def test_the_limit_on_a_peer_is_for_all_workers(serve: Serve) -> None:
    one, two, three = serve(Limits(per_peer=2))
    first, _ = one.connect()
    two.connect(IPv4Address("TCP", PEER.host, 50000))
    assert [endpoint.refused() for endpoint in (one, two, three)] == [True] * 3
    three.connect(OTHER)
    disconnect(first)
    assert not three.refused()
    assert two.guard.ends == {Reason.PER_PEER: 1}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("0.0.0.1", "0:0:0:1::1", False),
        ("ffff:ffff:ffff:ffff::1", "255.255.255.255", False),
    ],
)
def test_what_is_one_peer_is_so_at_all_workers(serve: Serve, first: str, second: str, same: bool) -> None:
    one, two, _ = serve(Limits(per_peer=1))
    kinds = [IPv6Address if ":" in host else IPv4Address for host in (first, second)]
    one.connect(kinds[0]("TCP", first, 40000))
    assert two.refused(kinds[1]("TCP", second, 40000)) is same


def test_a_peer_named_by_a_proxy_counts_at_all_workers(serve: Serve) -> None:
    one, two, _ = serve(Limits(per_peer=1), proxied=True)
    protocol, transport = one.connect(LOOPBACK, header=True)
    assert transport.read_header(PEER)
    _, refused = two.connect(LOOPBACK, header=True)
    assert not refused.read_header(PEER)
    disconnect(refused.protocol)
    disconnect(protocol)
    _, admitted = two.connect(LOOPBACK, header=True)
    assert admitted.read_header(PEER)
    assert two.guard.ends == {Reason.PER_PEER: 1}


def test_who_is_refused_takes_no_place(serve: Serve) -> None:
    """Neither of the endpoint nor of the peer, for whatever reason."""
    limits = Limits(connections=2, per_peer=1, deny=(ip_network("198.51.100.0/24"),))
    one, two, three = serve(limits)
    one.connect()
    for endpoint in (one, two, three):
        assert endpoint.refused()  # per_peer
        assert endpoint.refused(IPv4Address("TCP", "198.51.100.1", 40000))
    two.connect(OTHER)
    assert three.refused(IPv4Address("TCP", "192.0.2.3", 40000))


def test_a_lower_limit_holds_for_all_workers(serve: Serve) -> None:
    endpoints = serve(Limits())
    for endpoint in endpoints:
        endpoint.connect()
    for endpoint in endpoints:
        endpoint.guard.limits = Limits(connections=3)
    assert endpoints[0].refused(OTHER)


def test_numbers_are_the_endpoint_s(serve: Serve) -> None:
    endpoints = serve(Limits())
    protocols = [endpoint.connect()[0] for endpoint in (*endpoints, *endpoints[::-1])]
    assert [protocol.number for protocol in protocols] == [1, 2, 3, 4, 5, 6]
    assert endpoints[1].guard.find(5) is protocols[4]


def test_connections_over_unix_sockets_have_no_source(serve: Serve) -> None:
    one, two, _ = serve(Limits(connections=2, per_peer=1))
    one.connect(UNIXAddress(None))
    two.connect(UNIXAddress(None))
    assert one.refused(UNIXAddress(None))


def test_an_endpoint_that_gets_other_sockets_takes_its_counts_along(
    shared: Shared, counter: int, make_endpoint: type[GuardedEndpoint]
) -> None:
    """A reload may exchange all of them; connections stay."""
    limits = Limits(connections=2, per_peer=1)
    views = [shared.of(number) for number in (1, 2)]
    one, two = make_endpoint(limits), make_endpoint(limits)
    one.connect()
    for endpoint, view in zip((one, two), views, strict=True):
        endpoint.guard.share_with(view.endpoint(5, counter))
    assert two.refused()
    for endpoint, view in zip((one, two), views, strict=True):
        endpoint.guard.share_with(view.endpoint(6, counter))
    assert two.refused()
    two.connect(OTHER)
    assert one.refused(IPv4Address("TCP", "192.0.2.3", 40000))
    # Nothing is left where they were.
    third = shared.of(3).endpoint(5, counter)
    assert third.admits(1, 1)
    assert third.admits_from(source_of(address_of(PEER.host)), 1, 1)


def test_endpoints_are_counted_apart(shared: Shared, counter: int) -> None:
    for slot in (0, 1, SLOTS - 1):
        share = shared.of(1).endpoint(slot, counter)
        assert share.admits(1, 1)
        assert share.admits_from(7, 1, 1)


def test_what_a_dead_worker_had_is_cleared(shared: Shared, counter: int) -> None:
    dead, alive = (shared.of(number).endpoint(0, counter) for number in (1, 2))
    for opened in range(1, 6):
        assert dead.admits(opened, 5)
        assert dead.admits_from(7, opened, 5)
    assert not alive.admits(1, 5)
    shared.clear(1)
    for opened in range(1, 6):
        assert alive.admits(opened, 5)
        assert alive.admits_from(7, opened, 5)
    # And its replacement counts anew.
    replacement = shared.of(1).endpoint(0, counter)
    assert not replacement.admits(1, 5)
    replacement.set_open(1)
    assert not replacement.admits_from(7, 1, 5)
    alive.set_open_from(7, 4)
    assert replacement.admits_from(7, 1, 5)


def test_a_slot_is_used_again_once_its_connections_are_gone(
    shared: Shared, counter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [shared.take_slot() for _ in range(3)] == [0, 1, 2]
    share = shared.of(2).endpoint(1, counter)
    share.set_open(1)
    shared.release_slot(1)
    assert shared.take_slot() == 3
    share.set_open(0)
    assert shared.take_slot() == 1
    monkeypatch.setattr("suite.guard.shared.SLOTS", 4)
    with pytest.raises(OSError, match="4 sockets at the most"):
        shared.take_slot()


def test_what_happens_once_happens_at_one_worker(shared: Shared, counter: int) -> None:
    one, two = (shared.of(number).endpoint(0, counter) for number in (1, 2))
    assert one.claim("this")
    assert not two.claim("this")
    assert two.claim("that")
    assert not one.claim("that")
    # It is another endpoint that has another counter, also in the same slot.
    other = make_counter()
    assert shared.of(2).endpoint(0, other).claim("this")
    os.close(other)
    shared.clear(1)
    assert two.claim("this")


# The table of sources.


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(-(2**64), 2**32 - 1) | st.integers(-3, 3), st.booleans()),
        max_size=80,
    )
)
def test_the_table_counts_as_a_dictionary_does(steps: list[tuple[int, int, bool]]) -> None:
    """What one worker has, the other reads, however sources come and go."""
    shared, counter = Shared(2, sources=128), make_counter()
    try:
        writers = [shared.of(1).endpoint(slot, counter) for slot in (0, 1)]
        readers = [shared.of(2).endpoint(slot, counter) for slot in (0, 1)]
        expected: dict[tuple[int, int], int] = {}
        for slot, source, comes in steps:
            opened = max(0, expected.get((slot, source), 0) + (1 if comes else -1))
            expected[slot, source] = opened
            writers[slot].set_open_from(source, opened)
            writers[slot].set_open(2**31)  # or nobody would look at sources
            for (of, each), count in expected.items():
                assert readers[of].admits_from(each, 1, count + 1)
                readers[of].set_open_from(each, 0)
                assert not readers[of].admits_from(each, 1, count)
    finally:
        shared.close()
        os.close(counter)


def test_as_many_sources_as_there_is_room_for_are_told_apart() -> None:
    shared, counter = Shared(2, sources=5000), make_counter()
    writer, reader = (shared.of(number).endpoint(3, counter) for number in (1, 2))
    sources = [*range(2500), *range(-2500, 0)]
    for _ in range(2):  # they go, and come again
        for each in sources:
            writer.set_open_from(each, 1)
        writer.set_open(len(sources))
        assert [each for each in sources if reader.admits_from(each, 1, 1)] == []
        for each in sources:
            writer.set_open_from(each, 0)
        assert [each for each in sources if not reader.admits_from(each, 1, 1)] == []
        for each in sources:
            reader.set_open_from(each, 0)
    shared.close()
    os.close(counter)


def test_a_table_that_is_full_refuses_nobody(counter: int) -> None:
    """A source without a place counts at each worker by itself; those that have one count as ever."""
    shared = Shared(2, sources=1)
    one, two = (shared.of(number).endpoint(0, counter) for number in (1, 2))
    most = ROOM + WINDOW
    sources = range(1000, 1000 + 2 * most)
    for each in sources:
        assert one.admits_from(each, 1, 1)
    one.set_open(len(sources))
    admitted = [each for each in sources if two.admits_from(each, 1, 1)]
    assert 2 * most - most <= len(admitted) < 2 * most
    # A place that becomes free is taken again.
    for each in sources:
        one.set_open_from(each, 0)
        two.set_open_from(each, 0)
    assert one.admits_from(5, 1, 1)
    assert not two.admits_from(5, 1, 1)
    shared.close()


def test_numbers_start_again(counter: int) -> None:
    numbers, others = Numbers(counter), Numbers(counter)
    assert [numbers.next(), others.next(), numbers.next()] == [1, 2, 3]
    others.restart()
    assert numbers.next() == 1


# Real processes.


def test_processes_that_race() -> None:
    """Four of them admit as fast as they can: never one too many, and every number once; see there."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.guard.hammering"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    report: dict[str, Any] = json.loads(ran.stdout)
    numbers = report["numbers"]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert report["open"] == hammering.CONNECTIONS
    assert max(report["by_source"]) == hammering.PER_PEER
    # All places, and all of a peer, are taken; one more place is one; when the worker is gone, all are free.
    assert report["killed"] == {"before": [False, True, False], "after": hammering.CONNECTIONS}
