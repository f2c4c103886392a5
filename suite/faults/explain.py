"""Who gets which faults, before anybody has: what `suite.faults.decide` will decide.

Rule: asked of the same code that serving asks, so that it is what happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from suite.config.faults import Fault, Faults, Kind
from suite.faults.decide import Decider, Decision
from suite.faults.packets import Arrival, PacketDecider, Verdict


def connections(faults: Faults, count: int, host: str | None, name: str | None) -> list[Decision]:
    """What the first *count* connections get, if they come from *host* and ask for *name*.

    :param host: the address of the client; None: it has none.
    :param name: the name that a TLS client asks for; None: it asks for none.
    """
    decider = Decider(faults)
    found = []
    for number in range(1, count + 1):
        decision = decider.connection(number, host)
        if name is not None:
            decision += decider.named(number, name, host)
        found.append(decision)
    return found


def datagrams(faults: Faults, count: int, host: str, size: int, interval: float) -> list[Verdict]:
    """What happens to the first *count* datagrams, if they all come from *host*.

    :param size: bytes of each.
    :param interval: seconds from one to the next.
    """
    arrivals = (Arrival(size, host, number * interval) for number in range(count))
    return PacketDecider(faults).predict(arrivals)


def totals(struck: Iterable[Iterable[Kind]]) -> dict[str, int]:
    """How many get each kind of fault, in the order of the kinds."""
    counted = Counter(kind for kinds in struck for kind in set(kinds))
    return {kind.value: counted[kind] for kind in Kind if kind in counted}


def unreached(faults: Faults, struck: Iterable[Iterable[Kind]]) -> list[Fault]:
    """The conditional faults of kinds that strike none: another host or name might get them."""
    kinds = {kind for each in struck for kind in each}
    return [fault for fault in faults.entries if fault.conditional and fault.kind not in kinds]
