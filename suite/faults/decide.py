"""Which connection gets which faults: pure, and the same every time.

Rules: a decision follows from the seed, the number of the connection at its endpoint, and the declared
faults; not from a clock, nor from what other connections do (but for `Fault.once`). For each fault, in the
order of the file, one number decides about its `Fault.chance` and the next ones about its jitter, whatever
came of the others; see `suite.faults.draw`. The faults of one profile share the number that decides about
their chance. Where an earlier run is replayed, what it recorded is all that a connection gets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from suite.config.faults import STREAMS, USAGE, Fault, Faults, Kind, belongs_together
from suite.config.limits import address_of, within
from suite.faults.draw import Draws

#: Digits after the decimal point of a delay, in seconds: microseconds.
PRECISION: Final = 6

#: The kinds that can happen to a connection.
ON_CONNECTIONS: Final = frozenset(kind for kind in Kind if USAGE[kind].transports & STREAMS)


@dataclass(frozen=True)
class Decision:
    """The faults of one connection, as they will be.

    :ivar faults: what strikes: each delay is drawn (no jitter), and nothing is left to chance or depends on
        who the client is.
    :ivar seed: what is drawn while the connection lasts (the bytes that `Kind.CORRUPT` changes) follows from
        this.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(self.faults)

    def __add__(self, other: Decision) -> Decision:
        return replace(self, faults=self.faults + other.faults, seed=self.seed or other.seed)


#: Nothing goes wrong.
CLEAN: Final = Decision()


class Decider:
    """Decides for the connections of one endpoint.

    :param faults: what is declared; it may be replaced at any time.
    :ivar struck: how many connections, or datagrams, each kind of fault has struck.
    :ivar chosen: how many open connections have chosen their faults.
    :ivar claim: whether what strikes once for all workers strikes at this one; None: there are no others.
    """

    claim: Callable[[object], bool] | None = None

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.struck: Counter[Kind] = Counter()
        self.chosen = 0
        #: Those that strike once, and have, with the number of the connection, which may be decided about
        #: again. What looks the same in another place is another.
        self._spent: dict[tuple[Fault, int], int] = {}

    def connection(self, number: int, host: str | None = None) -> Decision:
        """What connection *number* gets whatever name it asks for.

        :param host: the client's address; None on a UNIX socket, which is in no network.
        """
        return self._decide(number, host, None)

    def named(self, number: int, name: str, host: str | None = None) -> Decision:
        """What connection *number* gets besides, because it asks for *name* (SNI)."""
        return self._decide(number, host, name.lower().rstrip("."))

    def _decide(self, number: int, host: str | None, name: str | None) -> Decision:
        faults = self.faults
        if faults.replayed is not None:
            recorded = faults.replayed.connections.get(number) if name is None else None
            return Decision(*recorded) if recorded is not None else CLEAN
        struck = []
        first = 0  # of the profile that the fault is part of
        for index, fault in enumerate(faults.entries):
            if not index or not belongs_together(faults.entries[index - 1], fault):
                first = index
            if fault.kind not in ON_CONNECTIONS:
                continue  # of a socket for datagrams beside it
            if bool(fault.names) is (name is None) or not _concerns(fault, host, name):
                continue
            draws = Draws(faults.seed, "connection", number, index)
            happens = draws.happens(fault.chance)
            if first != index:
                happens = Draws(faults.seed, "connection", number, first).happens(fault.chance)
            if not happens or number % fault.every:
                continue
            if fault.once and not self._is_first(fault, number):
                continue
            struck.append(drawn(fault, draws))
        return Decision(tuple(struck), seed_of(faults.seed, number)) if struck else CLEAN

    def _is_first(self, fault: Fault, number: int) -> bool:
        """Whether connection *number* is the one that *fault* strikes, of all."""
        key = (fault, fault.place)
        if key not in self._spent and self.claim is not None and not self.claim(key):
            return False
        return self._spent.setdefault(key, number) == number


def drawn(fault: Fault, draws: Draws) -> Fault:
    """*fault* with its delay drawn, and nothing left to chance."""
    value = fault.value
    if fault.jitter and isinstance(value, (int, float)):
        value = round(draws.around(value, fault.jitter, fault.distribution), PRECISION)
    return replace(
        fault,
        value=value,
        jitter=0.0,
        distribution="uniform",
        chance=1.0,
        every=1,
        once=False,
        networks=(),
        names=(),
    )


def seed_of(seed: int, number: int) -> int:
    """What is drawn while connection *number* lasts follows from this: 32 bits, which are easy to type."""
    return Draws(seed, "lasting", number).integer() >> 32


def _concerns(fault: Fault, host: str | None, name: str | None) -> bool:
    """Whether *fault* is for a client at *host* that asks for *name*."""
    if fault.networks and (host is None or not within(address_of(host), fault.networks)):
        return False
    if not fault.names:
        return True
    return name is not None and (name in fault.names or f"*.{name.partition('.')[2]}" in fault.names)
