"""`suite.faults.packets`: what is decided about datagrams, and that it follows from the seed alone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import ip_network
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.config.faults import Bursts, Fault, Faults, Kind, Recorded, Replay, Span
from suite.faults.packets import ORDER, Arrival, PacketDecider, Verdict, strike_datagrams

HOST = "127.0.0.1"

shares = st.floats(0, 1)
bursts = st.builds(Bursts, shares, shares, shares, shares)
spans = st.none() | st.builds(Span, size=st.integers(0, 500)) | st.builds(Span, seconds=st.floats(0, 5))

values = {
    Kind.LOSS: shares | bursts,
    Kind.TRUNCATE: st.integers(0, 100),
    Kind.CORRUPT: shares,
    Kind.DUPLICATE: shares,
    Kind.REORDER: shares,
    Kind.DELAY: st.floats(0, 5),
    Kind.RATE: st.integers(1, 10_000),
}


@st.composite
def declared(draw: st.DrawFn, kinds: tuple[Kind, ...] = ORDER) -> Fault:
    """Any fault of one of *kinds*."""
    kind = draw(st.sampled_from(kinds))
    late = kind is Kind.DELAY
    return Fault(
        kind,
        draw(values[kind]),
        jitter=draw(st.floats(0, 5)) if late else 0.0,
        distribution=draw(st.sampled_from(["uniform", "normal", "pareto"])) if late else "uniform",
        chance=draw(shares),
        every=draw(st.integers(1, 4)),
        once=draw(st.booleans()),
        networks=draw(st.sampled_from([(), (ip_network("127.0.0.0/8"),), (ip_network("10.0.0.0/8"),)])),
        after=draw(spans),
        lasts=draw(spans),
    )


faults = st.builds(Faults, st.lists(declared(), max_size=6).map(tuple), st.integers(0, 2**64))
arrivals = st.lists(
    st.builds(Arrival, st.integers(0, 200), st.sampled_from([HOST, "10.1.2.3", "::1"])), max_size=30
).map(lambda found: [arrival._replace(seconds=nth / 7) for nth, arrival in enumerate(found)])


def decide(decider: PacketDecider, arriving: list[Arrival]) -> list[Verdict]:
    return [decider.decide(arrival.host, arrival.size, arrival.seconds) for arrival in arriving]


def first(count: int, *entries: Fault, size: int = 10, seed: int = 0) -> list[Verdict]:
    """What happens to the first *count* datagrams of *size* bytes, one a second."""
    arriving = [Arrival(size, seconds=float(second)) for second in range(count)]
    return PacketDecider(Faults(entries, seed)).predict(arriving)


def struck(verdicts: list[Verdict]) -> list[int]:
    return [verdict.number for verdict in verdicts if verdict.kinds]


# The same every time.


@given(faults, arrivals)
def test_prediction(declared: Faults, arriving: list[Arrival]) -> None:
    """What is predicted is what is decided, whether it is predicted before, meanwhile or afterwards."""
    decider = PacketDecider(declared)
    before = decider.predict(arriving)
    half = len(arriving) // 2
    found = decide(decider, arriving[:half])
    meanwhile = decider.predict(arriving)
    found += decide(decider, arriving[half:])
    assert before == meanwhile == found == decider.predict(arriving)
    assert [verdict.number for verdict in found] == [*range(1, len(arriving) + 1)]


@given(faults, arrivals)
def test_verdicts_are_possible(declared: Faults, arriving: list[Arrival]) -> None:
    for verdict, arrival in zip(decide(PacketDecider(declared), arriving), arriving, strict=True):
        data = bytes(arrival.size)
        left = verdict.apply(data)
        assert len(left) == (arrival.size if verdict.size is None else verdict.size) <= arrival.size
        assert list(verdict.kinds) == sorted(verdict.kinds, key=ORDER.index)
        assert verdict.kinds == (Kind.LOSS,) if verdict.lost else Kind.LOSS not in verdict.kinds
        assert (verdict.shown() == "no fault") is not bool(verdict.kinds)
        assert verdict.delay >= 0
        if Kind.CORRUPT not in verdict.kinds:
            assert left == data[: len(left)]


@given(faults, faults, arrivals, st.integers(0, 30))
def test_what_is_recorded_is_repeated(
    one: Faults, other: Faults, arriving: list[Arrival], changed: int
) -> None:
    """Whatever else is declared, also where the faults were changed meanwhile."""
    decider = PacketDecider(one)
    found = decide(decider, arriving[:changed])
    decider.faults = other
    found += decide(decider, arriving[changed:])
    recorded = {1: Recorded(one.entries, one.seed), changed + 1: Recorded(other.entries, other.seed)}
    again = PacketDecider(Faults((Fault(Kind.LOSS, 1.0),), 5, replayed=Replay({}, recorded)))
    assert decide(again, arriving) == found
    if arriving:
        last = recorded[max(number for number in recorded if number <= len(arriving))]
        assert again.in_force == Faults(last.faults, last.seed)


def is_memoryless(fault: Fault) -> bool:
    """Whether *fault* strikes by the number of a datagram alone, whatever came before."""
    return not (isinstance(fault.value, Bursts) or fault.once or fault.after or fault.lasts)


@settings(deadline=None)
@given(faults, arrivals, st.integers(0, 3), st.integers(1, 3))
def test_workers_number_datagrams_together(
    one: Faults, arriving: list[Arrival], before: int, workers: int
) -> None:
    """What is drawn for one follows from its number, whichever worker has it; so does what is recorded."""
    kept = replace(one, entries=tuple(filter(is_memoryless, one.entries)))
    expected = PacketDecider(kept).predict(arriving)
    recorded = Replay({}, {before + 1: Recorded(kept.entries, kept.seed)})
    numbers, again = itertools.count(1), itertools.count(1)
    deciders = [(PacketDecider(kept), PacketDecider(Faults((), replayed=recorded))) for _ in range(workers)]
    for decider, replaying in deciders:
        decider.next_number, replaying.next_number = numbers.__next__, again.__next__
    for index, (host, size, seconds) in enumerate(
        (arrival.host, arrival.size, arrival.seconds) for arrival in arriving
    ):
        decider, replaying = deciders[index * index % workers]
        assert decider.decide(host, size, seconds) == expected[index]
        repeated = replaying.decide(host, size, seconds)
        assert repeated == (expected[index] if index >= before else Verdict(index + 1))


def test_what_strikes_once_does_so_at_one_worker() -> None:
    """At the first that has an occasion; there it waits for a datagram that it makes a difference to."""
    once = Fault(Kind.TRUNCATE, 5, once=True)
    claimed: set[object] = set()
    one, other = PacketDecider(Faults((once,))), PacketDecider(Faults((once,)))
    one.claim = other.claim = lambda what: what not in claimed and not claimed.add(what)  # type: ignore[func-returns-value]
    assert one.decide(HOST, 3, 0.0).size is None
    assert other.decide(HOST, 9, 0.0).size is None
    assert [one.decide(HOST, 9, 0.0).size for _ in range(2)] == [5, None]


def test_nothing_strikes_before_the_first_datagram_that_is_recorded() -> None:
    recorded = Replay({}, {3: Recorded((Fault(Kind.LOSS, 1.0),), 0), 5: Recorded((), 0)})
    replaying = Faults((Fault(Kind.LOSS, 1.0),), replayed=recorded)
    assert strike_datagrams(replaying)
    assert struck(PacketDecider(replaying).predict([Arrival(1)] * 6)) == [3, 4]
    assert not strike_datagrams(replace(replaying, replayed=Replay({1: Recorded((), 0)}, {})))


def test_equal_faults_in_two_places_strike_once_each() -> None:
    """As those of connections do."""
    once = Fault(Kind.DELAY, 0.1, once=True, place=1)
    assert [verdict.delay for verdict in first(2, once, replace(once, place=2))] == [0.2, 0.0]


def test_known_numbers() -> None:
    """A change of the generator would break what others have written down."""
    verdicts = first(8, Fault(Kind.LOSS, 0.25), Fault(Kind.DELAY, 0.2, jitter=0.05), seed=7)
    assert [str(verdict) for verdict in verdicts[:3]] == KNOWN


KNOWN = ["delayed 181.882 ms", "delayed 235.329 ms", "delayed 190.624 ms"]


def test_a_fault_draws_the_same_whatever_is_declared_behind_it_and_struck_before() -> None:
    delay = Fault(Kind.DELAY, 0.2, jitter=0.1, distribution="normal")
    alone = first(50, delay)
    among = first(50, delay, Fault(Kind.LOSS, 0.3), Fault(Kind.CORRUPT, 0.1))
    assert [v.delay for v in among if not v.lost] == [
        v.delay for v, other in zip(alone, among, strict=True) if not other.lost
    ]
    assert any(verdict.lost for verdict in among)


def test_another_seed_decides_differently() -> None:
    loss = Fault(Kind.LOSS, 0.5)
    assert struck(first(64, loss, seed=1)) != struck(first(64, loss, seed=2))


# When.


def test_every_once_and_chance() -> None:
    assert struck(first(10, Fault(Kind.LOSS, 1.0, every=3))) == [3, 6, 9]
    assert struck(first(10, Fault(Kind.LOSS, 1.0, every=3, once=True))) == [3]
    assert struck(first(10, Fault(Kind.LOSS, 1.0, chance=0.0))) == []
    (number,) = struck(first(100, Fault(Kind.LOSS, 0.1, once=True)))
    assert number == struck(first(100, Fault(Kind.LOSS, 0.1)))[0]
    halves = struck(first(1000, Fault(Kind.LOSS, 0.5, chance=0.5)))
    assert 200 < len(halves) < 300


def test_once_is_once_after_a_reload_too() -> None:
    once = Fault(Kind.LOSS, 1.0, once=True)
    decider = PacketDecider(Faults((once,)))
    assert decider.decide(HOST, 1, 0.0).lost
    decider.faults = Faults((Fault(Kind.DELAY, 1.0), once))
    assert str(decider.decide(HOST, 1, 0.0)) == "delayed 1 s"


@pytest.mark.parametrize(
    ("after", "lasts", "numbers"),
    [
        (Span(size=0), None, [1, 2, 3, 4, 5, 6, 7, 8]),
        (Span(size=20), None, [3, 4, 5, 6, 7, 8]),  # the third begins at byte 20
        (Span(size=21), None, [4, 5, 6, 7, 8]),
        (Span(size=20), Span(size=20), [3, 4]),
        (None, Span(size=20), [1, 2]),
        (Span(seconds=3.0), None, [4, 5, 6, 7, 8]),  # the fourth comes at second 3
        (Span(seconds=3.0), Span(seconds=2.0), [4, 5]),
        (None, Span(seconds=2.0), [1, 2]),
        (Span(size=25), Span(seconds=2.0), [4, 5]),  # two seconds from the first one behind byte 25
        (Span(seconds=2.5), Span(size=25), [4, 5, 6]),  # 25 bytes from the first one behind second 2.5
    ],
)
def test_windows(after: Span | None, lasts: Span | None, numbers: list[int]) -> None:
    """Datagrams of ten bytes, one a second."""
    assert struck(first(8, Fault(Kind.LOSS, 1.0, after=after, lasts=lasts))) == numbers


def test_a_window_is_noticed_though_datagrams_are_lost_meanwhile() -> None:
    lost = Fault(Kind.LOSS, 1.0, lasts=Span(size=40))
    late = Fault(Kind.DELAY, 0.1, after=Span(size=20), lasts=Span(seconds=3.0))
    assert [str(v) for v in first(6, lost, late)] == ["lost"] * 4 + ["delayed 100 ms"] + ["no fault"]


def test_only_networks() -> None:
    fault = Fault(Kind.LOSS, 1.0, networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
    hosts = ["127.0.0.1", "10.1.2.3", "::1", "2001:db8::1", "::ffff:10.1.2.3", "fe80::1%lo"]
    arriving = [Arrival(1, host) for host in hosts]
    found = PacketDecider(Faults((fault,))).predict(arriving)
    assert [verdict.lost for verdict in found] == [False, True, False, True, True, False]


def test_the_faults_of_one_profile_strike_together() -> None:
    entries = (
        Fault(Kind.DELAY, 0.1, chance=0.5, profile="3g", place=1),
        Fault(Kind.RATE, 1000, chance=0.5, profile="3g", place=1),
        Fault(Kind.DUPLICATE, 1.0, chance=0.5, profile="3g", place=2),
    )
    kinds = {verdict.kinds for verdict in first(100, *entries)}
    both, copied = (Kind.DELAY, Kind.RATE), (Kind.DUPLICATE,)
    assert kinds == {(), both, copied, copied + both}


def test_faults_of_streams_are_left_out() -> None:
    entries = (Fault(Kind.LATENCY, 1.0), Fault(Kind.LOSS, 0.5), Fault(Kind.RESET))
    assert {verdict.kinds for verdict in first(50, *entries)} == {(), (Kind.LOSS,)}
    assert strike_datagrams(Faults(entries))
    assert strike_datagrams(Faults(requested=True))
    assert not strike_datagrams(Faults(entries[:1]))


# What.


def test_order() -> None:
    """What is cut off cannot be corrupted; several of a kind combine."""
    entries = (
        Fault(Kind.RATE, 1000),
        Fault(Kind.DELAY, 0.25),
        Fault(Kind.DELAY, 0.5),
        Fault(Kind.REORDER, 1.0),
        Fault(Kind.DUPLICATE, 1.0),
        Fault(Kind.DUPLICATE, 1.0),
        Fault(Kind.CORRUPT, 1.0),
        Fault(Kind.TRUNCATE, 7),
        Fault(Kind.TRUNCATE, 3),
        Fault(Kind.RATE, 500),
    )
    (verdict,) = first(1, *entries)
    assert (verdict.size, verdict.delay, verdict.rate) == (3, 0.75, 500)
    assert [offset for offset, _ in verdict.changes] == [0, 1, 2]
    assert all(before != after for before, after in zip(bytes(10), verdict.apply(bytes(10)), strict=False))
    said = "truncated to 3; corrupted at 0, 1, 2; duplicated; reordered; delayed 750 ms; rate 500 B/s"
    assert str(verdict) == said
    assert verdict.kinds == ORDER[1:]


def test_a_truncation_that_cuts_nothing_off_is_none() -> None:
    assert struck(first(3, Fault(Kind.TRUNCATE, 10))) == []
    assert struck(first(3, Fault(Kind.CORRUPT, 1.0), size=0)) == []


def test_many_corrupted_bytes_are_not_all_named() -> None:
    (verdict,) = first(1, Fault(Kind.CORRUPT, 1.0), size=2000)
    assert str(verdict) == "corrupted at 0, 1, 2, 3, 4 and 1,995 more"


@pytest.mark.parametrize(("share", "count"), [(0.0005, 2000), (0.01, 1000), (0.5, 50)])
def test_the_share_of_corrupted_bytes(share: float, count: int) -> None:
    """Within four standard deviations, also behind the first `BLOCK` of a datagram."""
    size = 1500
    verdicts = first(count, Fault(Kind.CORRUPT, share), size=size)
    found = sum(len(verdict.changes) for verdict in verdicts)
    assert abs(found - count * size * share) < 4 * sqrt(count * size * share * (1 - share))
    tail = sum(offset >= 1100 for verdict in verdicts for offset, _ in verdict.changes)
    assert abs(tail - count * 400 * share) < 4 * sqrt(count * 400 * share * (1 - share))
    assert all(1 <= flip <= 255 for verdict in verdicts for _, flip in verdict.changes)


# Loss in bursts.


@pytest.mark.parametrize(
    "model",
    [
        Bursts(0.01, 0.1),
        Bursts(0.02, 0.2, 0.9, 0.01),
        Bursts(0.9, 0.8, 1.0, 0.1),  # it alternates
    ],
)
def test_gemodel(model: Bursts) -> None:
    """The share of 100,000 datagrams that is lost, within four standard deviations of the theory.

    In the long run the chain is in its bad state for ``p / (p + r)`` of the time. Two datagrams that are *k*
    apart have the covariance ``good * bad * (difference of the shares)^2 * (1 - p - r)^k``.
    """
    count = 100_000
    bad = model.p / (model.p + model.r)
    share = bad * model.bad + (1 - bad) * model.good
    decay = 1 - model.p - model.r
    covariances = bad * (1 - bad) * (model.bad - model.good) ** 2 * decay / (1 - decay)
    deviation = sqrt(count * (share * (1 - share) + 2 * covariances))
    lost = [verdict.lost for verdict in first(count, Fault(Kind.LOSS, model))]
    assert abs(sum(lost) - count * share) < 4 * deviation


def test_the_length_of_bursts() -> None:
    """Where all is lost in the bad state and nothing in the good one, a burst is ``1 / r`` on average."""
    lost = [verdict.lost for verdict in first(100_000, Fault(Kind.LOSS, Bursts(0.02, 0.25)))]
    begun = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    mean, deviation = 4.0, sqrt(0.75) / 0.25
    assert abs(sum(lost) / begun - mean) < 4 * deviation / sqrt(begun)


def test_the_state_from_before_decides() -> None:
    """As in netem: the first datagram is in the good state, even if that is left at once."""
    assert [v.lost for v in first(4, Fault(Kind.LOSS, Bursts(1.0, 0.0)))] == [False, True, True, True]
    assert [v.lost for v in first(4, Fault(Kind.LOSS, Bursts(1.0, 1.0)))] == [False, True, False, True]
    assert [v.lost for v in first(4, Fault(Kind.LOSS, Bursts(1.0, 1.0, 0.0, 1.0)))] == [
        True,
        False,
        True,
        False,
    ]


def test_a_state_survives_a_reload_that_leaves_the_fault_as_it_is() -> None:
    loss = Fault(Kind.LOSS, Bursts(1.0, 0.0))
    decider = PacketDecider(Faults((loss,)))
    decider.decide(HOST, 1, 0.0)
    decider.faults = Faults((loss, Fault(Kind.DELAY, 1.0)))
    assert decider.decide(HOST, 1, 0.0).lost
    decider.faults = Faults((replace(loss, value=Bursts(1.0, 0.5)),))
    assert not decider.decide(HOST, 1, 0.0).lost


def test_another_loss_does_not_hold_up_the_state() -> None:
    """Each datagram moves the line, those that are lost otherwise among them."""
    bursts = Fault(Kind.LOSS, Bursts(0.3, 0.3))
    alone, among = first(200, bursts), first(200, bursts, Fault(Kind.LOSS, 0.5))
    assert {v.number for v in alone if v.lost} <= {v.number for v in among if v.lost}
