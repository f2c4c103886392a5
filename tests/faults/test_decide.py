"""`suite.faults.decide`: which connection gets which faults, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from suite.config.fault_text import parse, words
from suite.config.faults import Fault, Faults, Kind, Recorded, Replay
from suite.config.profiles import PROFILES, faults_of
from suite.faults.decide import CLEAN, Decider, Decision, seed_of
from tests.config.test_fault_text import faults

several = st.lists(faults(), max_size=6).map(tuple)


def declared(text: str, seed: int = 0) -> Decider:
    return Decider(Faults(parse(text)[0], seed))


def got(decider: Decider, count: int, host: str | None = None) -> list[str]:
    """What the first connections get, in words."""
    decisions = [decider.connection(number, host) for number in range(1, count + 1)]
    return ["; ".join(map(words, decision.faults)) for decision in decisions]


def test_the_first_decisions_of_a_seed() -> None:
    """As they were when this was written: a seed in a bug report means the same everywhere, next year too."""
    decider = declared("latency=200ms jitter=50ms reset after=64KiB chance=0.3", seed=7)
    assert got(decider, 8) == [
        "latency=158.593ms; reset after=64KiB",
        "latency=216.243ms",
        "latency=233.93ms",
        "latency=238.604ms",
        "latency=226.21ms",
        "latency=200.219ms",
        "latency=172.293ms",
        "latency=229.289ms",
    ]
    assert [decider.connection(number).seed for number in (1, 2)] == [4092267054, 1328862726]
    assert [seed_of(7, number) for number in (1, 2)] == [4092267054, 1328862726]


def test_two_thousand_decisions_of_a_seed() -> None:
    """As they were under Python 3.11, 3.12 and 3.13."""
    decider = declared("latency=200ms jitter=50ms distribution=pareto reset after=64KiB chance=0.3", seed=7)
    digest = sha256("".join(got(decider, 1999)).encode()).hexdigest()
    assert digest.startswith("bb3c4676af92ce76")


@given(several, st.integers(0, 2**63 - 1), st.lists(st.integers(1, 10**6), max_size=20))
def test_the_same_seed_decides_the_same_in_any_order(
    entries: tuple[Fault, ...], seed: int, numbers: list[int]
) -> None:
    """But for `once`, which is about the first one that it strikes."""
    entries = tuple(replace(fault, once=False) for fault in entries)
    one, other = Decider(Faults(entries, seed)), Decider(Faults(entries, seed))
    first = {number: one.connection(number, "192.0.2.1") for number in numbers}
    second = {number: other.connection(number, "192.0.2.1") for number in reversed(numbers)}
    assert first == second


def test_what_strikes_once_does_so_at_one_worker() -> None:
    """And there it is decided again for the same connection."""
    claimed: set[object] = set()
    one, other = (declared("reset once") for _ in range(2))
    one.claim = other.claim = lambda what: what not in claimed and not claimed.add(what)  # type: ignore[func-returns-value]
    assert one.connection(1)
    assert not other.connection(2)
    assert one.connection(1)
    assert not one.connection(3)
    assert other.connection(4) == CLEAN


@given(several, st.integers(0, 2**63 - 1))
def test_a_decision_is_concrete_and_can_be_said_and_read(entries: tuple[Fault, ...], seed: int) -> None:
    """Nothing in it is left to chance, or to anybody else."""
    decider = Decider(Faults(entries, seed))
    for number in range(1, 6):
        decision = decider.connection(number, "192.0.2.1") + decider.named(number, "localhost", "192.0.2.1")
        for fault in decision.faults:
            assert (fault.jitter, fault.chance, fault.every, fault.once) == (0.0, 1.0, 1, False)
            assert not fault.conditional
            assert parse(words(fault))[0] == (fault,)
        assert bool(decision) is bool(decision.faults)
        assert 0 <= decision.seed < 2**32


@given(several, faults(), st.integers(0, 1000))
def test_a_fault_that_is_added_at_the_end_changes_none_of_the_others(
    entries: Sequence[Fault], added: Fault, seed: int
) -> None:
    # In a file each has a place of its own; what strikes once is told by it from another that is the same.
    *entries, added = (replace(fault, place=place) for place, fault in enumerate((*entries, added), start=1))
    before, after = Decider(Faults((*entries,), seed)), Decider(Faults((*entries, added), seed))
    for number in range(1, 6):
        struck = before.connection(number).faults
        assert after.connection(number).faults[: len(struck)] == struck


def test_a_chance_strikes_its_share() -> None:
    decider = declared("reset chance=0.1", seed=1)
    struck = sum(bool(decider.connection(number)) for number in range(1, 10_001))
    assert 900 < struck < 1100
    assert not any(declared("reset chance=0").connection(number) for number in range(1, 100))


def test_every_third_and_only_once() -> None:
    assert got(declared("reset every=3"), 7) == ["", "", "reset", "", "", "reset", ""]
    assert got(declared("reset once"), 3) == ["reset", "", ""]
    assert got(declared("reset once every=2"), 4) == ["", "reset", "", ""]


def test_what_has_struck_once_does_not_strike_again_after_a_reload() -> None:
    decider = declared("reset once")
    assert decider.connection(1)
    decider.faults = declared("reset once latency=1s").faults
    assert [words(fault) for fault in decider.connection(2).faults] == ["latency=1s"]
    assert len(decider.connection(1).faults) == 2, "unless it is decided again about the same connection"


def test_only_clients_in_a_network() -> None:
    decider = declared("reset only=192.0.2.0/24,2001:db8::/32")
    assert decider.connection(1, "192.0.2.7")
    assert decider.connection(1, "::ffff:192.0.2.7"), "an IPv4 client of an IPv6 socket"
    assert decider.connection(1, "2001:db8::1")
    assert not decider.connection(1, "198.51.100.1")
    assert not decider.connection(1, None), "a client of a UNIX socket"


def test_only_clients_that_ask_for_a_name() -> None:
    """Known later than the rest: what it adds is decided by itself."""
    decider = declared("latency=1s reset only=a.example,*.b.example")
    assert got(decider, 1) == ["latency=1s"]
    for name in ("a.example", "A.Example.", "x.b.example"):
        assert list(map(words, decider.named(1, name).faults)) == ["reset"]
    for name in ("b.example", "x.y.b.example", "aa.example", ""):
        assert decider.named(1, name) == CLEAN


def test_a_network_and_a_name_have_to_agree_both() -> None:
    decider = declared("reset only=192.0.2.0/24,a.example")
    assert decider.named(1, "a.example", "192.0.2.1")
    assert not decider.named(1, "a.example", "198.51.100.1")
    assert not decider.named(1, "b.example", "192.0.2.1")
    assert not decider.connection(1, "192.0.2.1")


def test_the_faults_of_one_profile_strike_together() -> None:
    """Half of the connections are on 3G, not each of its properties on another half."""
    entries = (Fault(Kind.SLICE, 1, chance=0.5), *faults_of("3g", PROFILES["3g"], chance=0.5))
    decider = Decider(Faults(entries, 5))
    profile = 3  # its latency, and a bandwidth each way; the others are for datagrams
    counts = []
    for number in range(1, 201):
        struck = [fault for fault in decider.connection(number).faults if fault.profile]
        counts.append(len(struck))
    assert set(counts) == {0, profile}
    assert 70 < counts.count(profile) < 130


def test_two_entries_with_the_same_profile_are_decided_separately() -> None:
    first = faults_of("dsl", PROFILES["dsl"], chance=0.5, place=1)
    second = faults_of("dsl", PROFILES["dsl"], chance=0.5, place=2)
    decider = Decider(Faults(first + second, 5))
    found = {len(decider.connection(number).faults) for number in range(1, 101)}
    assert found == {0, 3, 6}


def test_what_is_replayed_is_all_that_there_is() -> None:
    recorded = Recorded(parse("latency=213ms reset")[0], 99)
    decider = Decider(Faults((Fault(Kind.STALL),), replayed=Replay({2: recorded}, {})))
    assert [decider.connection(number, "192.0.2.1") for number in (1, 2, 3)] == [
        CLEAN,
        Decision(*recorded),
        CLEAN,
    ]
    assert decider.named(2, "localhost") == CLEAN, "the decision recorded has it already"


def test_networks_in_declarations_are_networks() -> None:
    (fault,) = parse("reset only=::ffff:192.0.2.0/120")[0]
    assert fault.networks == (ip_network("192.0.2.0/24"),)
