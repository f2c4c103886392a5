"""`suite.guard.datagrams`: which datagrams are answered, and that deciding it costs little memory."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.config.limits import Limits
from suite.guard.datagrams import (
    BUCKETS,
    LOOKED_AT,
    REMEMBERED_SOURCES,
    SIGHTINGS,
    DatagramPolicy,
    Loops,
    OwnPorts,
    TokenBuckets,
    answerable,
    is_on_this_host,
    unpack,
)
from suite.reasons import Reason

ORDINARY = [
    "127.0.0.1",
    "10.1.2.3",
    "192.0.2.255",
    "198.51.100.7",
    "223.255.255.254",
    "::1",
    "2001:db8::1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:192.0.2.1",
]

MULTICAST = ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1", "ff02::1%eth0", "::ffff:224.0.0.251"]
BROADCAST = ["255.255.255.255", "::ffff:255.255.255.255"]
UNSPECIFIED = ["0.0.0.0", "::", "::ffff:0.0.0.0"]

hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@pytest.mark.parametrize("host", ORDINARY)
def test_ordinary_sources_are_answered(host: str) -> None:
    assert answerable(host, 1024, ())
    assert answerable(host, 65535, {1234})


@pytest.mark.parametrize("host", [*MULTICAST, *BROADCAST, *UNSPECIFIED])
def test_addresses_that_are_no_single_hosts_are_not_answered(host: str) -> None:
    assert not answerable(host, 40000, ())


@pytest.mark.parametrize("port", [0, 1, 7, 13, 19, 53, 123, 1023])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "198.51.100.7"])
def test_system_ports_are_not_answered(host: str, port: int) -> None:
    assert not answerable(host, port, ())


@pytest.mark.parametrize("host", ["127.0.0.1", "198.51.100.7", "::1", "::ffff:127.0.0.1"])
def test_our_own_ports_are_not_answered_on_any_host(host: str) -> None:
    """Another host with this port is another suite like this one, and would answer our reply."""
    assert not answerable(host, 1234, {1234, 4321})
    assert not answerable(host, 4321, {1234, 4321})
    assert answerable(host, 1235, {1234, 4321})


@given(hosts, st.integers(0, 65535), st.frozensets(st.integers(0, 65535), max_size=3))
def test_what_is_answered_is_a_client_port_of_one_host(
    host: IPv4Address | IPv6Address, port: int, own: frozenset[int]
) -> None:
    if answerable(str(host), port, own):
        assert port >= 1024
        assert port not in own
        assert not host.is_multicast
        assert not host.is_unspecified
        assert host != IPv4Address("255.255.255.255")


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_a_mapped_address_is_treated_as_the_one_it_stands_for(host: IPv4Address, port: int) -> None:
    assert answerable(f"::ffff:{host}", port, {5353}) == answerable(str(host), port, {5353})


# Remembered sources.


@settings(max_examples=50)
@given(st.lists(st.tuples(hosts.map(str), st.integers(0, 65535)), max_size=5))
def test_the_memory_changes_no_answer(sources: list[tuple[str, int]]) -> None:
    policy = DatagramPolicy()
    policy.add_own_port(5353)
    for source in sources + sources:
        assert policy.admit(source) == answerable(*source, {5353})


def test_ipv6_sources_may_have_more_than_host_and_port() -> None:
    policy = DatagramPolicy()
    assert policy.admit(("fe80::1", 40000, 0, 2))  # type: ignore[arg-type]  # as the socket module has it
    assert not policy.admit(("ff02::1", 40000, 0, 2))  # type: ignore[arg-type]


# Packed addresses.


def packed(host: IPv4Address | IPv6Address, port: int, scope: int = 0) -> bytes:
    """A ``sockaddr_in`` or ``sockaddr_in6``."""
    if host.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, host.packed)
    return (
        struct.pack("=H", socket.AF_INET6)
        + struct.pack("!HI16s", port, 7, host.packed)
        + struct.pack("=I", scope)
    )


@given(hosts, st.integers(0, 65535))
def test_a_packed_source_is_the_source_that_is_packed(host: IPv4Address | IPv6Address, port: int) -> None:
    assert unpack(packed(host, port)) == (str(host), port)


@given(st.lists(st.tuples(hosts, st.integers(0, 65535)), max_size=5))
@settings(max_examples=50)
def test_a_packed_source_is_admitted_when_the_source_is(
    sources: list[tuple[IPv4Address | IPv6Address, int]],
) -> None:
    policy = DatagramPolicy()
    policy.add_own_port(5353)
    for host, port in sources + sources:
        assert policy.admit(packed(host, port)) == answerable(str(host), port, {5353})


@given(st.lists(st.sampled_from([7, 19, 1023, 1024, 5353, 40000, 40001]), max_size=64))
def test_many_sources_are_admitted_together_once_each_has_been(ports: list[int]) -> None:
    policy = DatagramPolicy()
    policy.add_own_port(5353)
    sources = [packed(IPv4Address("127.0.0.1"), port) for port in ports]
    assert not policy.admits_all(sources) or not ports
    refused = [not policy.admit(source) for source in sources]
    assert refused == [port < 1024 or port == 5353 for port in ports]
    assert policy.admits_all(sources) is not any(refused)


def test_a_packed_source_with_a_scope_is_admitted_as_one_without() -> None:
    policy = DatagramPolicy()
    assert policy.admit(packed(IPv6Address("fe80::1"), 40000, scope=2))
    assert not policy.admit(packed(IPv6Address("ff02::1"), 40000, scope=2))


def test_a_new_port_of_ours_is_heeded_for_packed_sources_already_admitted() -> None:
    policy = DatagramPolicy()
    source = packed(IPv4Address("192.0.2.1"), 40000)
    assert policy.admit(source)
    policy.add_own_port(40000)
    assert not policy.admit(source)


def test_the_memory_of_both_kinds_of_source_is_bounded_together() -> None:
    policy = DatagramPolicy(Limits(rate=None))
    host = IPv4Address("192.0.2.1")
    most = 0
    for port in range(1024, 1024 + REMEMBERED_SOURCES):
        assert policy.admit((str(host), port))
        assert policy.admit(packed(host, port))
        most = max(most, len(policy._admitted))
    assert most == REMEMBERED_SOURCES


# The limit on remembered sources.


def test_a_source_already_admitted_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = DatagramPolicy(Limits(rate=None))
    assert policy.admit(("192.0.2.1", 40000))

    def forbidden(*_args: object) -> bool:
        raise AssertionError("looked at again")

    assert policy.admit(packed(IPv4Address("192.0.2.1"), 40000))
    monkeypatch.setattr("suite.guard.datagrams.answerable", forbidden)
    assert policy.admit(("192.0.2.1", 40000))
    assert policy.admit(packed(IPv4Address("192.0.2.1"), 40000))


def test_a_refused_source_is_not_remembered() -> None:
    policy = DatagramPolicy()
    for port in range(1024):
        assert not policy.admit(("192.0.2.1", port))
    assert not policy._admitted


def test_the_memory_of_admitted_sources_is_bounded() -> None:
    """All sources are answered, however many there are."""
    policy = DatagramPolicy(Limits(rate=None))
    most = 0
    for number in range(3 * REMEMBERED_SOURCES):
        assert policy.admit((f"10.0.{number % 7}.1", 1024 + number))
        most = max(most, len(policy._admitted))
    assert most == REMEMBERED_SOURCES


def test_a_new_port_of_ours_is_heeded_for_sources_already_admitted() -> None:
    policy = DatagramPolicy()
    assert policy.admit(("192.0.2.1", 40000))
    policy.add_own_port(40000)
    assert not policy.admit(("192.0.2.1", 40000))
    assert policy.admit(("192.0.2.1", 40001))


def test_every_port_of_ours_is_heeded_not_only_the_last() -> None:
    policy = DatagramPolicy()
    policy.add_own_port(40000)
    policy.add_own_port(40001)
    assert not policy.admit(("192.0.2.1", 40000))
    assert not policy.admit(("192.0.2.1", 40001))


def test_two_suites_know_nothing_of_each_other() -> None:
    one, other = DatagramPolicy(), DatagramPolicy()
    one.add_own_port(40000)
    assert not one.admit(("192.0.2.1", 40000))
    assert other.admit(("192.0.2.1", 40000))


# Rates.


class Time:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_burst_and_fills_at_its_rate() -> None:
    clock = Time()
    buckets = TokenBuckets(10, 5, clock)
    source = IPv4Address("192.0.2.1")
    assert [buckets.take(source) for _ in range(7)] == [True] * 5 + [False] * 2
    clock.now += 0.25
    assert [buckets.take(source) for _ in range(3)] == [True, True, False]
    clock.now += 1000
    assert [buckets.take(source) for _ in range(6)] == [True] * 5 + [False]


def test_so_many_datagrams_take_so_many_tokens_at_once_or_what_is_left() -> None:
    clock = Time()
    buckets = TokenBuckets(10, 5, clock)
    source = IPv4Address("192.0.2.1")
    assert [buckets.take(source, count) for count in (2, 0, 64, 1)] == [2, 0, 3, 0]
    clock.now += 0.25
    assert buckets.take(source, 64) == 2
    clock.now += 0.25  # the half token that was left counts
    assert buckets.take(source, 64) == 3


def test_every_source_has_a_bucket_of_its_own_and_a_network_of_64_bits_is_one_source() -> None:
    buckets = TokenBuckets(10, 1, Time())
    assert buckets.take(IPv4Address("192.0.2.1"))
    assert buckets.take(IPv4Address("192.0.2.2"))
    assert buckets.take(IPv6Address("2001:db8::1"))
    assert not buckets.take(IPv6Address("2001:db8::ffff:2"))
    assert buckets.take(IPv6Address("2001:db8:0:1::1"))
    assert buckets.take(IPv6Address("::c000:201")), "not the same as 192.0.2.1"


def test_the_memory_of_buckets_is_bounded_and_forgets_the_longest_unused() -> None:
    buckets = TokenBuckets(10, 1, Time())
    one = IPv4Address("192.0.2.1")
    for number in range(BUCKETS + 100):
        buckets.take(IPv4Address(number + 2**24))
        if number % 1000 == 0:
            buckets.take(one)
    assert len(buckets._buckets) == BUCKETS
    assert not buckets.take(one)


def test_a_source_over_its_rate_is_refused_whichever_way_it_is_asked_about() -> None:
    clock = Time()
    policy = DatagramPolicy(Limits(rate=1, burst=2), clock=clock, name="udp")
    one, other = packed(IPv4Address("192.0.2.1"), 40000), packed(IPv4Address("192.0.2.2"), 40000)
    sources = [one, one, other, one, one, other]
    assert [policy.admit(source) for source in sources] == [1, 1, 1, 0, 0, 1]
    assert not policy.admits_all([one])
    assert not policy.admit(("192.0.2.1", 50000)), "another port is the same source"
    clock.now += 1
    assert policy.admit(("192.0.2.1", 50000))
    assert policy.refusals == {Reason.RATE: 3}


def test_loopback_has_no_rate_unless_it_is_given_one() -> None:
    policy = DatagramPolicy(Limits(rate=1, burst=1), clock=Time())
    assert all(policy.admit(("127.0.0.1", 40000)) for _ in range(10))
    assert all(policy.admit(("::1", 40000)) for _ in range(10))
    policy.limits = Limits(rate=1, burst=1, rate_exempt=())
    assert [policy.admit(("127.0.0.1", 40000)) for _ in range(2)] == [True, False]


def test_denied_sources_are_not_answered_from_when_they_are_denied() -> None:
    policy = DatagramPolicy()
    assert policy.admit(("127.0.0.1", 40000))
    policy.limits = Limits(deny=(ip_network("127.0.0.0/8"),))
    assert not policy.admit(("127.0.0.1", 40000))
    assert policy.admit(("::1", 40000))
    assert not policy.admit(packed(IPv6Address("::ffff:127.0.0.1"), 40000))
    assert policy.refusals == {Reason.DENIED: 2}


def test_a_port_that_is_no_longer_ours_is_answered_again() -> None:
    ports = OwnPorts()
    one = DatagramPolicy(own_ports=ports)
    ports.join(5001)
    ports.join(5002)
    assert not one.admit(("127.0.0.1", 5002))
    ports.leave(5002)
    assert one.admit(("127.0.0.1", 5002))
    assert not one.admit(("127.0.0.1", 5001))


def test_a_message_is_one_decision_about_its_first_datagrams() -> None:
    policy = DatagramPolicy(Limits(rate=1, burst=100), clock=Time())
    source = packed(IPv4Address("192.0.2.1"), 40000)
    assert [policy.admit(source, 64), policy.admit(source, 64), policy.admit(source, 64)] == [64, 36, 0]
    assert policy.refusals == {Reason.RATE: 28 + 64}
    assert policy.admit(packed(IPv4Address("192.0.2.1"), 53), 64) == 0
    assert policy.refusals[Reason.SOURCE] == 64
    assert policy.admit(packed(IPv4Address("127.0.0.1"), 40000), 64) == 64


@pytest.mark.parametrize("source", [("127.0.0.1", 40000), packed(IPv4Address("127.0.0.1"), 40000)])
def test_what_was_sent_to_many_is_not_answered_however_well_its_source_is_known(
    source: tuple[str, int] | bytes,
) -> None:
    policy = DatagramPolicy()
    assert policy.admit(source, 2) == 2
    assert policy.admit(source, 2, to_many=True) == 0
    assert policy.admit(source, 2) == 2
    assert policy.refusals == {Reason.DESTINATION: 2}


# Our own ports, used by clients.


def test_clients_may_use_our_ports_on_other_hosts_if_they_are_told_to() -> None:
    policy = DatagramPolicy(Limits(answer_own_ports=True))
    policy.add_own_port(5353)
    assert policy.admit(("192.0.2.1", 5353))
    assert policy.admit(packed(IPv6Address("2001:db8::1"), 5353))
    assert not policy.admit(("192.0.2.1", 53)), "a system port is still one"
    for host in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
        assert not policy.admit((host, 5353)), "it could only be this suite itself"
        assert policy.admit((host, 5354))
    policy.limits = Limits()
    assert not policy.admit(("192.0.2.1", 5353))


@pytest.mark.parametrize(
    ("host", "ours"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("2001:db8::1", False)]
)
def test_a_host_is_this_one_if_a_socket_can_be_bound_to_it(host: str, ours: bool) -> None:
    assert is_on_this_host(host) is ours


# Loops.


def test_the_same_datagram_from_the_same_source_is_not_answered_once_it_has_been_seen_so_often() -> None:
    policy = DatagramPolicy()
    source = packed(IPv4Address("127.0.0.1"), 40000)
    for _ in range(2):
        assert [policy.goes_round(source, b"round") for _ in range(SIGHTINGS)] == [False] * (
            SIGHTINGS - 1
        ) + [True]
    assert policy.refusals == {Reason.LOOP: 2}


def test_several_datagrams_that_go_round_together_are_each_found() -> None:
    loops = Loops()
    payloads = [b"%d" % number for number in range(5)]
    seen = [loops.seen("peer", payload) for _ in range(SIGHTINGS) for payload in payloads]
    assert seen == [False] * (SIGHTINGS - 1) * 5 + [True] * 5


def test_a_client_whose_datagrams_differ_is_never_in_a_loop_and_the_memory_is_bounded() -> None:
    loops = Loops()
    assert not any(loops.seen("peer", b"%d" % (number // (SIGHTINGS - 1))) for number in range(3 * LOOKED_AT))
    for number in range(3 * LOOKED_AT):
        assert not loops.seen("another", b"%d" % number)
    assert len(loops._sightings) == LOOKED_AT
