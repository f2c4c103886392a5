"""What an endpoint has counted: one immutable value, made when somebody asks.

Rules: everything is counted where it happens, in what lives as long as the endpoint (its guard, its policy,
its faults), so that a reload that keeps the endpoint keeps its counts; making a value changes nothing. What
depends on peers is bounded: reasons and faults are closed lists, and so is each key here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from suite.guard.handshakes import Handshake
from suite.guard.streams import Guarded
from suite.reasons import REFUSALS
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns

__all__ = ["Counts", "Handshake", "counts_in_turns", "counts_of"]

#: Connections that are looked at in one go: well under a millisecond.
SOME: Final = 500


@dataclass(frozen=True)
class Counts:
    """The counts of one endpoint, or their sum.

    :ivar open: connections that are open.
    :ivar accepted: connections accepted since the endpoint was opened, those refused later among them.
    :ivar received: bytes received on them.
    :ivar sent: bytes that the kernel has taken from their answers.
    :ivar ended: connections that have ended, by reason, without those refused.
    :ivar refused: connections refused, by reason.
    :ivar handshakes: TLS handshakes completed, by what was agreed on.
    :ivar handshake_failures: TLS handshakes that failed, by word (`suite.guard.handshakes`).
    :ivar datagrams_received: datagrams received.
    :ivar datagrams_answered: datagrams sent.
    :ivar datagram_bytes_received: bytes of payload in those received.
    :ivar datagram_bytes_sent: bytes of payload in those sent.
    :ivar datagrams_lost: answers that the kernel has refused.
    :ivar unanswered: datagrams not answered, by reason.
    :ivar faults: connections or datagrams that a declared fault has struck, by its kind.
    """

    open: int = 0
    accepted: int = 0
    received: int = 0
    sent: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    handshakes: Mapping[Handshake, int] = field(default_factory=dict)
    handshake_failures: Mapping[str, int] = field(default_factory=dict)
    datagrams_received: int = 0
    datagrams_answered: int = 0
    datagram_bytes_received: int = 0
    datagram_bytes_sent: int = 0
    datagrams_lost: int = 0
    unanswered: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        return type(self)(**{each.name: _sum(each.name, self, other) for each in fields(self)})

    def __sub__(self, other: Self) -> Self:
        """What has been counted since *other*, an earlier value."""
        return type(self)(**{each.name: _difference(each.name, self, other) for each in fields(self)})


def _sum(name: str, one: Counts, other: Counts) -> Any:
    first, second = getattr(one, name), getattr(other, name)
    if isinstance(first, int):
        return first + second
    if not (first and second):
        return first or second
    total = Counter(first)
    total.update(second)
    return total


def _difference(name: str, one: Counts, other: Counts) -> Any:
    first, second = getattr(one, name), getattr(other, name)
    return first - second if isinstance(first, int) else dict(Counter(first) - Counter(second))


def counts_of(endpoint: RunningEndpoint) -> Counts:
    """The counts of *endpoint* so far, which has few open connections, or none."""
    guard = endpoint.guard
    return _counts(endpoint, *_bytes(guard.open if guard is not None else ()))


async def counts_in_turns(endpoint: RunningEndpoint, turns: Turns) -> Counts:
    """The counts of *endpoint* so far, however many connections are open, so that no echo waits for it."""
    guard = endpoint.guard
    if guard is None or len(guard.open) <= SOME:
        return counts_of(endpoint)
    # What has been counted when a connection ends is read with those that are open, once.
    found = _counts(endpoint, 0, 0)
    connections = [*guard.open]
    received, sent = found.received, found.sent
    async for first in turns.between(range(0, len(connections), SOME)):
        more = _bytes(connections[first : first + SOME])
        received, sent = received + more[0], sent + more[1]
    return replace(found, received=received, sent=sent)


def _bytes(connections: Iterable[Guarded]) -> tuple[int, int]:
    """How many bytes have been received on *connections*, and sent."""
    found = [(connection.received, connection.sent) for connection in connections]
    return sum([received for received, _ in found]), sum([sent for _, sent in found])


def _counts(endpoint: RunningEndpoint, received: int, sent: int) -> Counts:
    """The counts of *endpoint*.

    :param received: bytes received on the open connections.
    :param sent: bytes sent on them.
    """
    guard, policy = endpoint.guard, endpoint.datagrams
    streams: dict[str, Any] = {}
    datagrams: dict[str, Any] = {}
    if guard is not None:
        streams = {
            "open": len(guard.open),
            "accepted": guard.accepted_count,
            "received": guard.received + received,
            "sent": guard.sent + sent,
            "ended": {str(reason): n for reason, n in guard.ends.items() if reason not in REFUSALS},
            "refused": {str(reason): n for reason, n in guard.ends.items() if reason in REFUSALS},
            "handshakes": dict(guard.handshake_counts.completed),
            "handshake_failures": dict(guard.handshake_counts.failed),
        }
    if policy is not None:
        traffic = policy.traffic
        datagrams = {
            "datagrams_received": traffic.received,
            "datagrams_answered": traffic.sent,
            "datagram_bytes_received": traffic.bytes_received,
            "datagram_bytes_sent": traffic.bytes_sent,
            "datagrams_lost": traffic.lost,
            "unanswered": {str(reason): n for reason, n in policy.refusals.items()},
        }
    faults = {str(kind): n for kind, n in endpoint.decider.struck.items()}
    return Counts(**streams, **datagrams, faults=faults)
