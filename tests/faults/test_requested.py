"""`suite.faults.requested`: what a client asks for, and what it gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config.fault_text import parse, words
from suite.config.faults import Faults, Kind, Profile
from suite.faults.decide import CLEAN, Decider
from suite.faults.requested import in_name, request

ANYTHING = Faults(requested=True, seed=3)


def test_a_request_gets_what_it_says() -> None:
    decision = request("latency=200ms slice=1 seed=7\r\n", "TCP", ANYTHING)
    assert list(map(words, decision.faults)) == ["latency=200ms", "slice=1B"]


@pytest.mark.parametrize("text", ["", "\r\n", "  ", ";"])
def test_who_asks_for_nothing_gets_nothing(text: str) -> None:
    assert request(text, "TCP", ANYTHING) == CLEAN


def test_the_same_request_gets_the_same() -> None:
    """As the first connection of an endpoint that declares it, so that `explain` says it beforehand."""
    text = "latency=200ms jitter=50ms"
    faults, _ = parse(text)
    assert request(f"{text} seed=7", "TCP", ANYTHING) == Decider(Faults(faults, 7)).connection(1)
    assert request(text, "TCP", ANYTHING) == Decider(Faults(faults, 3)).connection(1)
    assert request(f"{text} seed=7", "TCP", ANYTHING) != request(f"{text} seed=8", "TCP", ANYTHING)


def test_a_profile_of_the_file_can_be_asked_for() -> None:
    faults = Faults(requested=True, profiles={"office": Profile(latency=0.02, down=1000)})
    decision = request("profile=office", "TCP", faults)
    assert list(map(words, decision.faults)) == ["latency=20ms", "bandwidth=1000B"]
    with pytest.raises(ValueError, match="'3g' is not a profile; expected office"):
        request("profile=3g", "TCP", faults)


def test_datagrams_are_drawn_for_one_by_one() -> None:
    decision = request("delay=1s jitter=1s loss=0.1 chance=0.5 seed=7", "UDP", ANYTHING)
    assert decision.faults == parse("delay=1s jitter=1s loss=0.1 chance=0.5")[0]
    assert decision.seed == 7


BAD = [
    ("latancy=1s", "latancy: is not a fault; did you mean latency?"),
    ("GET / HTTP/1.1", "GET: is not a fault; expected one of latency, bandwidth"),
    ("loss=0.1", "loss: does not go with TCP; only UDP has it"),
    ("refuse", "refuse: strikes before a request is read"),
    ("accept_delay=1s", "accept_delay: strikes before a request is read"),
    ("reset every=2", "every: cannot be requested"),
    ("reset once", "once: cannot be requested"),
    ("reset only=127.0.0.1", "only: cannot be requested"),
    ("stall", "stall: is not allowed here; expected latency or reset"),
    ("profile=3g", "bandwidth: is not allowed here"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[text for text, _ in BAD])
def test_what_cannot_be_had_is_refused_in_one_line(text: str, said: str) -> None:
    allowed = Faults(requested=True, allowed=frozenset({Kind.LATENCY, Kind.RESET}))
    with pytest.raises(ValueError, match=r".") as refused:
        request(text, "TCP", allowed)
    assert str(refused.value).startswith(said)
    assert str(refused.value).isprintable()


NAMES = [
    ("latency-200ms.slice-1.localhost", "latency=200ms slice=1"),
    ("latency-200ms--slice-1.localhost", "latency=200ms slice=1"),
    ("LATENCY-200MS.jitter-50ms.seed-7.localhost.", "latency=200ms jitter=50ms seed=7"),
    ("reset.after-64kib.example.org", "reset after=64kib"),
    ("corrupt-0_1.localhost", "corrupt=0.1"),
    ("half-close.localhost", "half_close"),
    ("half_close.after-1.localhost", "half_close after=1"),
    ("key-update-5.localhost", "key_update=5"),
    ("handshake-stall-after-hello.localhost", "handshake=stall-after-hello"),
    ("alert-handshake_failure.localhost", "alert=handshake_failure"),
    ("alert-unknown-ca.localhost", "alert=unknown-ca"),
    ("end-notify-fin.localhost", "end=notify-fin"),
    ("profile-3g.localhost", "profile=3g"),
    ("seed-7.reset.localhost", "seed=7 reset"),
    ("reset", "reset"),
]


@pytest.mark.parametrize(("name", "text"), NAMES, ids=[name for name, _ in NAMES])
def test_a_name_is_a_request(name: str, text: str) -> None:
    assert in_name(name) == text
    assert request(text, "TLS", ANYTHING)


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "example.org",
        "",
        "seed-7.localhost",
        "once.localhost",
        "xn--bcher-kva.example",
        "latency2.example",
        "jitter-1s.localhost",
        "latency-.localhost",
        "www.reset.example",
    ],
)
def test_a_name_without_a_fault_is_none(name: str) -> None:
    assert in_name(name) is None


def test_a_name_that_is_meant_as_a_request_and_is_none_is_refused() -> None:
    for name, said in (
        ("latency.localhost", "latency: has no value"),
        ("latency-soon.localhost", "latency: 'soon' is not a duration"),
        ("reset-after-1.localhost", "reset: 'after-1' cannot be used"),
    ):
        text = in_name(name)
        assert text is not None
        with pytest.raises(ValueError, match=said):
            request(text, "TLS", ANYTHING)


@given(st.text())
def test_any_name_is_a_request_or_none(name: str) -> None:
    found = in_name(name)
    assert found is None or found == found.strip()
