"""`suite.guard.steering`: how the limits of an endpoint divide its datagrams among workers."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

if sys.platform != "linux":
    pytest.skip("workers are for Linux", allow_module_level=True)

from suite.config.limits import Limits
from suite.guard.steering import steer
from tests.engine.test_reuseport import SOCKETS, bound, send


@pytest.fixture
def group() -> Iterator[list[socket.socket]]:
    made = [bound("127.0.0.1", grouped=True)]
    made.extend(bound("127.0.0.1", made[0].getsockname()[1], grouped=True) for _ in range(1, SOCKETS))
    yield made
    for sock in made:
        sock.close()


def limits(rate: int | None, *exempt: str) -> Limits:
    return Limits(rate=rate, rate_exempt=tuple(map(ip_network, exempt)))


@pytest.mark.parametrize(
    ("before", "now", "one"),
    [
        (None, Limits(), False),
        (None, limits(1), True),
        (None, limits(None), False),
        (None, limits(1, "127.0.0.1/32", "::1/128"), True),
        (None, limits(1, "0.0.0.0/0"), False),
        (limits(1), limits(None), False),
        (limits(None), limits(1), True),
        (limits(1), Limits(), False),
        (Limits(), limits(1), True),
    ],
)
def test_a_source_with_a_rate_has_one_worker(
    group: list[socket.socket], before: Limits | None, now: Limits, one: bool
) -> None:
    """As it is now, whatever was before a reload."""
    for each in (before, now):
        if each is not None:
            steer(group[0], SOCKETS, each)
    found = send(group, "127.0.0.1", ["127.0.0.1"], 128)
    assert (len(found["127.0.0.1"]) == 1) is one
