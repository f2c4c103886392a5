"""Connecting to the first of several addresses, on a clock of the test's own."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from suite.client.dial import happy_eyeballs
from suite.client.dial.addresses import Address
from suite.client.dial.failures import TargetError
from suite.client.dial.happy_eyeballs import ATTEMPT_DELAY, connect_first, taking_turns


def v4(last: int) -> Address:
    return Address(socket.AF_INET, (f"192.0.2.{last}", 1))


def v6(last: int) -> Address:
    return Address(socket.AF_INET6, (f"2001:db8::{last}", 1, 0, 0))


class Network:
    """Attempts to connect, each of which the test settles.

    :ivar tried: the addresses in the order of the attempts.
    :ivar ended: the addresses of attempts that were given up.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.tried: list[Address] = []
        self.ended: list[Address] = []
        self.attempts: dict[Address, Deferred[Any]] = {}
        self.outcome: list[Any] = []

    def connect_socket(self, _reactor: Any, address: Address, _source: str | None) -> Deferred[Any]:
        self.tried.append(address)
        attempt: Deferred[Any] = Deferred(lambda _: self.ended.append(address))
        self.attempts[address] = attempt
        return attempt

    def start(self, *addresses: Address, timeout: float = 5.0) -> None:
        found = Deferred.fromCoroutine(connect_first(self.clock, addresses, timeout, None))
        found.addBoth(self.outcome.append)

    def refuse(self, address: Address) -> None:
        self.attempts.pop(address).errback(TargetError("refused", "Connection refused"))

    @property
    def problem(self) -> TargetError:
        (failure,) = self.outcome
        error: TargetError = failure.value
        return error


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(happy_eyeballs, "connect_socket", network.connect_socket)
    return network


def test_families_take_turns() -> None:
    assert taking_turns([v6(1), v6(2), v6(3), v4(1)]) == [v6(1), v4(1), v6(2), v6(3)]
    assert taking_turns([v4(1), v6(1)]) == [v4(1), v6(1)]
    assert taking_turns([v4(1)]) == [v4(1)]


def test_a_silent_address_costs_a_quarter_of_a_second(network: Network) -> None:
    network.start(v6(1), v4(1), v4(2))
    network.clock.advance(ATTEMPT_DELAY - 0.01)
    assert network.tried == [v6(1)]
    network.clock.advance(0.01)
    assert network.tried == [v6(1), v4(1)]
    network.attempts[v4(1)].callback("a socket")
    assert network.outcome == [("a socket", v4(1))]
    assert network.ended == [v6(1)]
    assert not network.clock.getDelayedCalls()


def test_the_slow_address_may_still_win(network: Network) -> None:
    network.start(v6(1), v4(1))
    network.clock.advance(ATTEMPT_DELAY)
    network.attempts[v6(1)].callback("a socket")
    assert network.outcome == [("a socket", v6(1))]
    assert network.ended == [v4(1)]


def test_after_a_refusal_the_next_address_is_tried_at_once(network: Network) -> None:
    network.start(v6(1), v4(1))
    network.refuse(v6(1))
    assert network.tried == [v6(1), v4(1)]
    network.attempts[v4(1)].callback("a socket")
    assert network.outcome == [("a socket", v4(1))]


def test_all_refuse(network: Network) -> None:
    network.start(v6(1), v4(1))
    network.refuse(v6(1))
    network.refuse(v4(1))
    assert network.problem.word == "refused"
    assert network.problem.detail == (
        "[2001:db8::1]:1: refused: Connection refused; 192.0.2.1:1: refused: Connection refused"
    )
    assert not network.clock.getDelayedCalls()


def test_one_refuses_and_one_is_silent(network: Network) -> None:
    network.start(v6(1), v4(1), timeout=2)
    network.refuse(v6(1))
    network.clock.advance(2)
    assert network.problem.word == "timeout"
    assert network.problem.detail == (
        "[2001:db8::1]:1: refused: Connection refused; 192.0.2.1:1: timeout: no connection within 2 s"
    )
    assert network.ended == [v4(1)]


def test_every_address_gets_its_turn_within_a_short_timeout(network: Network) -> None:
    network.start(*map(v4, range(10)), timeout=0.1)
    network.clock.pump([0.01] * 9)
    assert len(network.tried) == 10


def test_an_interruption_ends_all_attempts(network: Network) -> None:
    found = Deferred.fromCoroutine(connect_first(network.clock, [v6(1), v4(1)], 5, None))
    found.addErrback(lambda failure: failure.trap(CancelledError))
    network.clock.advance(ATTEMPT_DELAY)
    found.cancel()
    assert network.ended == [v6(1), v4(1)]
    assert not network.clock.getDelayedCalls()
