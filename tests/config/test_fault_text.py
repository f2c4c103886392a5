"""`suite.config.fault_text`: faults in words, and the same in tables."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config.fault_quantities import MOST_BYTES
from suite.config.fault_text import parse, read_entry, shown, words
from suite.config.fault_values import LONGEST_DATAGRAM, LONGEST_RECORD, MOST_MESSAGES
from suite.config.faults import (
    ALERTS,
    ALWAYS,
    DIRECTIONS,
    DISTRIBUTIONS,
    ENDS,
    HANDSHAKES,
    USAGE,
    Bursts,
    Fault,
    Kind,
    Span,
)

# Whatever a fault may be.

durations = st.integers(0, 10**12).map(lambda nanoseconds: nanoseconds / 10**9)
sizes = st.integers(0, MOST_BYTES)
rates = st.integers(1, MOST_BYTES)
shares = st.floats(0, 1)
spans = sizes.map(lambda size: Span(size=size)) | durations.map(lambda seconds: Span(seconds=seconds))

VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.LATENCY: durations,
    Kind.BANDWIDTH: rates,
    Kind.SLICE: st.integers(1, MOST_BYTES),
    Kind.CORRUPT: shares,
    Kind.LIMIT: sizes,
    Kind.ACCEPT_DELAY: durations,
    Kind.SLOW_CLOSE: durations,
    Kind.LOSS: shares | st.builds(Bursts, shares, shares, shares, shares),
    Kind.DUPLICATE: shares,
    Kind.REORDER: shares,
    Kind.DELAY: durations,
    Kind.TRUNCATE: st.integers(0, LONGEST_DATAGRAM),
    Kind.RATE: rates,
    Kind.HANDSHAKE: st.sampled_from(HANDSHAKES),
    Kind.ALERT: st.sampled_from(sorted(ALERTS)),
    Kind.END: st.sampled_from(ENDS),
    Kind.FRAGMENT: st.integers(1, LONGEST_RECORD),
    Kind.KEY_UPDATE: st.integers(1, MOST_MESSAGES),
}

networks = st.sampled_from(["192.0.2.0/24", "10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32", "::1/128"])
names = st.sampled_from(["localhost", "*.example.org", "a-b.example", "x_y", "10.example"])

OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "jitter": {"jitter": durations},
    "distribution": {"distribution": st.sampled_from(DISTRIBUTIONS)},
    "gap": {"gap": durations},
    "direction": {"direction": st.sampled_from(DIRECTIONS)},
    "chance": {"chance": shares},
    "every": {"every": st.integers(1, 2**31 - 1)},
    "once": {"once": st.booleans()},
    "only": {
        "networks": st.lists(networks.map(ip_network), max_size=3).map(tuple),
        "names": st.lists(names, max_size=3).map(tuple),
    },
    "after": {"after": st.none() | spans},
    "for": {"lasts": st.none() | spans},
}


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """Any fault that can be declared."""
    kind = draw(st.sampled_from(Kind))
    fields = {}
    for option in sorted(USAGE[kind].options | ALWAYS):
        for name, values in OPTIONS[option].items():
            if draw(st.booleans()):
                fields[name] = draw(values)
    if kind is Kind.STALL and (fields.get("lasts") or Span()).size is not None:
        del fields["lasts"]  # it would never end
    return Fault(kind, draw(VALUES.get(kind, st.just(True))), **fields)


@given(faults())
def test_what_is_said_in_words_is_read_as_the_same_fault(fault: Fault) -> None:
    assert parse(words(fault)) == ((fault,), None)
    assert parse(words(fault).upper()) == ((fault,), None), "letters may be large"


@given(st.lists(faults(), min_size=1, max_size=5), st.none() | st.integers(0, 2**63 - 1))
def test_several_faults_are_read_as_they_stand_in_the_log(several: list[Fault], seed: int | None) -> None:
    said = "; ".join(map(words, several)) + ("" if seed is None else f" seed={seed}")
    assert parse(said) == (tuple(several), seed)


@given(faults())
def test_what_people_see_is_one_printable_line_that_begins_with_the_kind(fault: Fault) -> None:
    assert shown(fault).isprintable()
    assert shown(fault).split()[0].rstrip(",") == fault.kind
    assert shown(fault) == shown(fault).strip()


@given(
    st.text()
    | st.lists(st.sampled_from([*Kind, *OPTIONS, "=", "1", "s", " ", ";", "seed", ","])).map("".join)
)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    said = ""
    try:
        assert parse(text)[0]
    except ValueError as error:
        said = str(error) or "nothing\n"
    assert said.isprintable()


WORDS = [
    ("latency=200ms jitter=50ms", Fault(Kind.LATENCY, 0.2, jitter=0.05), "latency 200 ms ± 50 ms"),
    ("latency=0.5ms", Fault(Kind.LATENCY, 0.0005), "latency 0.5 ms"),
    ("latency=90m", Fault(Kind.LATENCY, 5400.0), "latency 5,400 s"),
    (
        "latency=2S jitter=1s distribution=Pareto direction=BOTH",
        Fault(Kind.LATENCY, 2.0, jitter=1.0, distribution="pareto", direction="both"),
        "latency 2 s ± 1 s (pareto) (both)",
    ),
    ("slice=1 gap=10ms", Fault(Kind.SLICE, 1, gap=0.01), "slice 1 every 10 ms"),
    ("reset after=65536", Fault(Kind.RESET, after=Span(size=65536)), "reset at 65,536"),
    ("reset after=64kib", Fault(Kind.RESET, after=Span(size=65536)), "reset at 65,536"),
    (
        "reset=true after=2s once",
        Fault(Kind.RESET, after=Span(seconds=2.0), once=True),
        "reset after 2 s, once",
    ),
    ("stall once=false", Fault(Kind.STALL), "stall"),
    ("bandwidth=10KiB", Fault(Kind.BANDWIDTH, 10240), "bandwidth 10,240 B/s"),
    ("bandwidth=8mbit", Fault(Kind.BANDWIDTH, 1_000_000), "bandwidth 1,000,000 B/s"),
    ("rate=56kbit", Fault(Kind.RATE, 7_000), "rate 7,000 B/s"),
    ("rate=100", Fault(Kind.RATE, 100), "rate 100 B/s"),
    (
        "corrupt=1e-3 after=1KiB for=1s",
        Fault(Kind.CORRUPT, 0.001, after=Span(1024), lasts=Span(None, 1.0)),
        "corrupt 0.001 from 1,024 for 1 s",
    ),
    ("loss=p:0.01,r:0.3", Fault(Kind.LOSS, Bursts(0.01, 0.3)), "loss in bursts (p 0.01 r 0.3 1-h 1 1-k 0)"),
    ("loss=p:0.25", Fault(Kind.LOSS, Bursts(0.25, 0.75)), "loss in bursts (p 0.25 r 0.75 1-h 1 1-k 0)"),
    ("alert=Handshake-Failure", Fault(Kind.ALERT, "handshake_failure"), "alert handshake_failure"),
    (
        "handshake=stall_after_hello",
        Fault(Kind.HANDSHAKE, "stall-after-hello"),
        "handshake stall-after-hello",
    ),
    ("end=notify-fin", Fault(Kind.END, "notify+fin"), "end notify+fin"),
    (
        "reset chance=0.1 every=3 only=192.0.2.7,*.Example.org",
        Fault(Kind.RESET, chance=0.1, every=3, networks=(ip_network("192.0.2.7"),), names=("*.example.org",)),
        "reset, chance 0.1, every 3, only 192.0.2.7/32,*.example.org",
    ),
]


@pytest.mark.parametrize(("said", "fault", "seen"), WORDS, ids=[said for said, _, _ in WORDS])
def test_words_and_what_people_see(said: str, fault: Fault, seen: str) -> None:
    assert parse(said) == ((fault,), None)
    assert shown(fault) == seen


def test_options_belong_to_the_fault_before_them_and_a_seed_to_all() -> None:
    found, seed = parse("latency=1s jitter=1ms reset after=1 seed=7 chance=0.5")
    assert found == (
        Fault(Kind.LATENCY, 1.0, jitter=0.001),
        Fault(Kind.RESET, after=Span(size=1), chance=0.5),
    )
    assert seed == 7


def test_the_words_of_a_fault_are_as_short_as_can_be() -> None:
    assert words(Fault(Kind.LATENCY, 0.213)) == "latency=213ms"
    assert words(Fault(Kind.LATENCY, 0.213004)) == "latency=213.004ms"
    assert words(Fault(Kind.RESET, after=Span(size=65536))) == "reset after=64KiB"
    assert words(Fault(Kind.RESET, after=Span(size=65537), once=True)) == "reset once after=65537B"


BAD = [
    ("", None, "no fault is named; expected one such as latency=200ms or reset"),
    ("seed=7", None, "no fault is named"),
    ("latancy=1s", None, "latancy: is not a fault; did you mean latency?"),
    ("hello", None, "hello: is not a fault; expected one of latency, bandwidth"),
    ("jitter=1s", None, "jitter: belongs to a fault; expected one before it"),
    ("latency", None, 'latency: has no value; expected a duration such as "200ms" or "2s"'),
    ("latency=", None, "latency: '' is not a duration"),
    ("latency=200", None, 'or "2s"; did you mean "200ms"?'),
    ("latency=1s jitter", None, "jitter: has no value"),
    ("latency=1s jitter=1s jitter=2s", None, "jitter: is given twice for one fault"),
    ("reset seed=1 seed=1", None, "seed: is given twice"),
    ("reset seed=-1", None, "seed: '-1' is not a seed; expected a whole number, 0 or more"),
    ("reset=0", None, "reset: '0' cannot be used; expected true"),
    ("reset once=maybe", None, "once: 'maybe' cannot be used; expected true or false"),
    ("limit=-1", None, "limit: '-1' is not a size"),
    ("slice=1kb", None, "slice: '1kb' is not a size"),
    ("reset only=", None, "only: '' is neither a network nor a name"),
    ("profile", None, "profile: has no value; expected the name of one, such as profile=3g"),
    ("profile=5g", None, "profile: '5g' is not a profile"),
    ("loss=p:x", None, "loss: p: 'x' is not a share"),
    ("reset_peer", None, "reset_peer: is not a fault; did you mean reset?"),
    ("stall for=1KiB", None, "for: '1KiB' never ends, since no byte passes meanwhile; expected a time"),
    (
        "latency=1s,jitter=1s",
        None,
        "latency: '1s,jitter=1s' has a comma before a key; expected a space there",
    ),
    ("every=2 reset", None, "every: belongs to a fault"),
    ("latency=1s", "UDP", "latency: does not go with UDP; did you mean delay?"),
    ("reset only=a.example", "TCP", "only: 'a.example' is a name, for which only TLS clients ask"),
    ("reset\x1b[2J", None, "reset\\x1b[2J: is not a fault; did you mean reset?"),
]


@pytest.mark.parametrize(("text", "transport", "said"), BAD, ids=[said for _, _, said in BAD])
def test_bad_words_are_refused_in_one_line(text: str, transport: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse(text, transport)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_profile_is_what_applies_to_the_transport() -> None:
    streams, _ = parse("profile=3G", "TCP")
    assert list(map(words, streams)) == [
        "latency=300ms jitter=50ms",
        "bandwidth=200000B",
        "bandwidth=96000B direction=up",
    ]
    datagrams, _ = parse("profile=3g chance=0.5", "UDP")
    assert list(map(words, datagrams)) == [
        "delay=300ms jitter=50ms chance=0.5",
        "rate=96000B chance=0.5",
        "loss=0.005 chance=0.5",
    ]


def test_a_table_means_the_same_as_words() -> None:
    mistakes: list[tuple[str, str]] = []

    def note(key: str, problem: str) -> None:
        mistakes.append((key, problem))

    table = json.loads('{"latency": "200ms", "jitter": "50ms", "only": ["192.0.2.0/24"]}')
    assert read_entry(table, note) == parse("latency=200ms jitter=50ms only=192.0.2.0/24")[0]
    assert read_entry({"profile": "DSL"}, note) == parse("profile=dsl")[0]
    assert not mistakes
    assert read_entry({"latency": "1s", "jitter": 1, "gap": "1s"}, note) == ()
    assert [key for key, _ in mistakes] == ["jitter", "gap"], "each of them, in the order of the table"
